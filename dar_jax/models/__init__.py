"""The policy's network: one decoder, many families."""

from dar_jax.models.cache import CACHE_AXES, Cache
from dar_jax.models.config import DecoderConfig
from dar_jax.models.decoder import Decoder, Params, abstract, bind, init, logical_axes, positions

__all__ = [
    "CACHE_AXES",
    "Cache",
    "Decoder",
    "DecoderConfig",
    "Params",
    "abstract",
    "bind",
    "init",
    "logical_axes",
    "positions",
]
