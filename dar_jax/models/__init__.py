"""The policy's network: one decoder for many model families."""

from dar_jax.models.cache import CACHE_AXES, Cache
from dar_jax.models.decoder import Decoder, Params, abstract, bind, init, logical_axes, positions
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.kernels import check as check_attention
from dar_jax.models.lora import Lora, join, merge, split
from dar_jax.models.stack import cast_with_grad_accumulation, layer_at, set_layer, unstacked

__all__ = [
    "CACHE_AXES",
    "Cache",
    "Decoder",
    "DecoderConfig",
    "Lora",
    "Params",
    "abstract",
    "bind",
    "cast_with_grad_accumulation",
    "check_attention",
    "init",
    "join",
    "layer_at",
    "logical_axes",
    "merge",
    "positions",
    "set_layer",
    "split",
    "unstacked",
]
