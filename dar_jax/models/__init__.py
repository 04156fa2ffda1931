"""The policy's network: one decoder, many families."""

from dar_jax.models.cache import CACHE_AXES, Cache
from dar_jax.models.config import DecoderConfig
from dar_jax.models.decoder import Decoder, Params, abstract, bind, init, logical_axes, positions
from dar_jax.models.lora import Lora, join, merge, split

__all__ = [
    "CACHE_AXES",
    "Cache",
    "Decoder",
    "DecoderConfig",
    "Lora",
    "Params",
    "abstract",
    "bind",
    "init",
    "join",
    "logical_axes",
    "merge",
    "positions",
    "split",
]
