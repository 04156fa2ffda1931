"""Fused attention kernels, which never hold the scores, for attention without a cache: prefill, recall and regress.

splash   jax's Pallas kernel for TPUs, which skips fully masked blocks; interpreted on a CPU, for tests
cudnn    NVIDIA's kernel, through `jax.nn.dot_product_attention`
"""

import functools as ft
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dar_jax.errors import SettingError
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.parallel import platform, spec

_PLATFORMS = {"splash": ("tpu", "cpu"), "cudnn": ("gpu", "cuda")}
# Names of their forward primitives in a jaxpr.
PRIMITIVES = {"pallas_call", "dot_product_attention_fwd_wrapper"}
_TILE = 128
_LARGEST_BLOCK = 512


def check(config: DecoderConfig, platform: str) -> None:
    """Raise SettingError if the kernel of the settings cannot compute this decoder on this platform."""
    kernel = config.attention
    if kernel != "xla" and platform not in _PLATFORMS[kernel]:
        raise SettingError(f"learning.attention: {kernel} does not run on a {platform}; choose xla, or leave it out")
    if kernel == "cudnn" and config.score_cap is not None:
        raise SettingError(
            "learning.attention: cudnn cannot cap scores, as this model does; choose xla, or leave it out"
        )


def splash(
    query_BTNH: jax.Array,
    key_BKSH: jax.Array,
    value_BKSH: jax.Array,
    mask_BS: jax.Array,
    local: jax.Array,
    config: DecoderConfig,
) -> jax.Array:
    """Return what `attention.attend` does, sharded by rows and heads; padding attends only to padding."""
    query_BNTH = query_BTNH.swapaxes(1, 2) * jnp.asarray(_scale(config), query_BTNH.dtype)
    heads = ("batch", "heads", None, None), ("batch", "kv_heads", None, None), ("batch", "kv_heads", None, None)
    arrays = (query_BNTH, key_BKSH.astype(query_BNTH.dtype), value_BKSH.astype(query_BNTH.dtype))
    run = ft.partial(_splash, config)
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty:
        specs = [spec(axes, array.shape, mesh) for axes, array in zip(heads, arrays, strict=True)]
        rows = spec(("batch", None), mask_BS.shape, mesh)
        run = jax.shard_map(
            run, in_specs=(*specs, rows, jax.sharding.PartitionSpec()), out_specs=specs[0], check_vma=False
        )
    return run(*arrays, mask_BS, local).swapaxes(1, 2)


def cudnn(
    query_BTNH: jax.Array, key_BKSH: jax.Array, value_BKSH: jax.Array, mask_BTS: jax.Array, config: DecoderConfig
) -> jax.Array:
    """Return what `attention.attend` does."""
    key_BSKH, value_BSKH = (array.swapaxes(1, 2).astype(query_BTNH.dtype) for array in (key_BKSH, value_BKSH))
    return jax.nn.dot_product_attention(
        query_BTNH, key_BSKH, value_BSKH, mask=mask_BTS[:, None], scale=_scale(config), implementation="cudnn"
    )


def _splash(
    config: DecoderConfig,
    query_BNTH: jax.Array,
    key_BKSH: jax.Array,
    value_BKSH: jax.Array,
    mask_BS: jax.Array,
    local: jax.Array,
) -> jax.Array:
    heads, length = query_BNTH.shape[1:3]
    more = -length % _TILE
    padded = [jnp.pad(each, ((0, 0), (0, 0), (0, more), (0, 0))) for each in (query_BNTH, key_BKSH, value_BKSH)]
    segment_BT = jnp.pad(mask_BS.astype(jnp.int32), ((0, 0), (0, more)))

    def run(window: int | None, arrays: list[jax.Array]) -> jax.Array:
        return jax.vmap(_kernel(heads, length + more, window, config.score_cap))(*arrays, segment_BT)

    if len(set(config.local)) == 1:
        mixed_BNTH = run(config.window if config.local[0] else None, padded)
    else:
        mixed_BNTH = jax.lax.cond(local, ft.partial(run, config.window), ft.partial(run, None), padded)
    return mixed_BNTH[:, :, :length]


def _kernel(heads: int, length: int, window: int | None, cap: float | None) -> Callable[..., jax.Array]:
    """Return the kernel of one row: a function of queries, keys, values and segment ids."""
    from jax.experimental.pallas.ops.tpu import splash_attention

    shape = (length, length)
    seen = splash_attention.CausalMask(shape)
    if window is not None:
        seen = splash_attention.LocalMask(shape, (min(window, length) - 1, 0), 0)  # type: ignore[assignment]
    block = next(size for size in (_LARGEST_BLOCK, 2 * _TILE, _TILE) if length % size == 0)
    kernel = splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([seen] * heads),
        block_sizes=splash_attention.BlockSizes(
            block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, use_fused_bwd_kernel=True
        ),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=cap,
        interpret=platform() == "cpu",
    )
    return lambda query, key, value, segment_T: kernel(  # type: ignore[return-value]
        query, key, value, splash_attention.SegmentIds(q=segment_T, kv=segment_T)
    )


def _scale(config: DecoderConfig) -> float:
    return 1 / math.sqrt(config.score_size or config.head_size)
