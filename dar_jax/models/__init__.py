"""The policy's network: one decoder, many families."""

from dar_jax.models.cache import CACHE_AXES, Cache
from dar_jax.models.decoder import Decoder, Params, abstract, bind, init, logical_axes, positions
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.kernels import check as check_attention
from dar_jax.models.lora import Lora, join, merge, split
from dar_jax.models.stack import at, lend, listed, put

__all__ = [
    "CACHE_AXES",
    "Cache",
    "Decoder",
    "DecoderConfig",
    "Lora",
    "Params",
    "abstract",
    "at",
    "bind",
    "check_attention",
    "init",
    "join",
    "lend",
    "listed",
    "logical_axes",
    "merge",
    "positions",
    "put",
    "split",
]
