"""The decoder: embedding, layers stacked on a leading axis, head.

NNX defines the modules; parameters are plain trees of arrays, made by `init` or `huggingface.load`. `bind` merges them
into a module inside a jitted function.
"""

import functools as ft
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.batches import Inputs
from dar_jax.models import kernels
from dar_jax.models.attention import Attention, AttentionMasks, attention_masks, capped
from dar_jax.models.cache import Cache, Past
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.layers import Axes, Mlp, Norm, random
from dar_jax.models.lora import join, split
from dar_jax.models.stack import scan_layers, scan_layers_accumulating_grads
from dar_jax.parallel import constrain

Params = dict[str, Any]


class Layer(nnx.Module):
    """One layer: attention and the gated feed-forward, each between norms and around a residual."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        self.attention = Attention(config, rngs=rngs)
        self.mlp = Mlp(config, rngs=rngs)
        if config.norms != "after":
            self.attention_norm = Norm(config, "width")
            self.mlp_norm = Norm(config, "width")
        if config.norms != "before":
            self.attention_post_norm = Norm(config, "width")
            self.mlp_post_norm = Norm(config, "width")

    def __call__(self, hidden_BTD: jax.Array, *context: Any) -> tuple[jax.Array, Any]:
        """Return the hidden states after this layer, and its keys and values; `context` is passed to `Attention`."""
        mixed_BTD, cached = self.attention(self._norm("attention_norm", hidden_BTD), *context)
        hidden_BTD = hidden_BTD + self._norm("attention_post_norm", mixed_BTD)
        changed_BTD = self.mlp(self._norm("mlp_norm", hidden_BTD))
        hidden_BTD = hidden_BTD + self._norm("mlp_post_norm", changed_BTD)
        return constrain(hidden_BTD, "batch", None, None), cached

    def _norm(self, name: str, value_BTD: jax.Array) -> jax.Array:
        norm = getattr(self, name, None)
        return value_BTD if norm is None else norm(value_BTD)


class Decoder(nnx.Module):
    """A causal language model. Computes in the dtype of its parameters; norms, rotary positions and
    softmax in float32.
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        self.embed = random(config, ("vocab", "vocab_width"), rngs)
        self.layers = _stacked(config, rngs)
        self.norm = Norm(config, "width")
        if not config.tied_head:
            self.head = random(config, ("vocab_width", "vocab"), rngs)
        self.config = config

    def __call__(
        self,
        inputs: Inputs,
        *,
        position_BT: jax.Array | None = None,
        cache: Cache | None = None,
        offset: jax.Array | int = 0,
        return_cache: bool = False,
        grad_sums: Params | None = None,
        remat: bool = True,
    ) -> tuple[jax.Array, Cache | None]:
        """Return the final hidden states `[B, T, D]`, before the head, and the cache.

        Without a cache S is T, and query t attends to position s where s <= t and `mask_BS`; the returned cache holds
        these tokens with `return_cache`, else it is None. With a cache, S are its positions: keys and values are
        written at offset..offset+T, which must lie within S, and query t attends to s <= offset + t.
        `position_BT` counts real tokens only; it defaults to `positions(mask_BS)`.

        With `grad_sums`, the layers' gradients are added to it in the backward pass
        (`scan_layers_accumulating_grads`); there is no cache. Each layer is cast to the embedding's dtype when it runs;
        its input is saved for the backward pass, and without `remat` its matmul outputs too.
        """
        position_BT = positions(inputs.mask_BS) if position_BT is None else position_BT
        seen = attention_masks(self.config, position_BT, inputs.mask_BS, None if cache is None else offset)
        graphdef, stacked = nnx.split(self.layers)
        layers, local, hidden_BTD = _arrays(stacked), jnp.array(self.config.local), self._embedded(inputs)
        config = self.config
        if grad_sums is not None:

            def learn(learnt: Any, fixed: Any, hidden_BTD: jax.Array, seen: Any) -> jax.Array:
                layer = nnx.merge(graphdef, join(learnt, fixed[0]))
                return layer(hidden_BTD, _view(config, fixed[1], seen), None)[0]

            learnt, fixed = split(layers, config.lora)
            cast = ft.partial(_cast, config, hidden_BTD.dtype)
            policy = jax.checkpoint_policies.nothing_saveable if remat else _is_worth_keeping
            learn = jax.checkpoint(learn, policy=policy, prevent_cse=False)
            hidden_BTD = scan_layers_accumulating_grads(
                learn, cast, learnt, (fixed, local), grad_sums, hidden_BTD, seen
            )
            return self.norm(hidden_BTD), None

        def read(hidden_BTD: jax.Array, layer: Any) -> tuple[jax.Array, Any]:
            params, cached, local = layer
            past = None if cached is None else Past(cached, offset if unstacked else None)
            hidden_BTD, new = nnx.merge(graphdef, params)(hidden_BTD, _view(config, local, seen), past)
            return hidden_BTD, new if return_cache or past is not None else None

        # A scan over stacked layers that wrote to the cache would copy it in every layer: it only reads, and the new
        # positions of all layers are written after it. The caches of unstacked layers are written inside the loop.
        cached = None if cache is None else (cache.key_LBKSH, cache.value_LBKSH)
        unstacked = cache is not None and cache.is_unstacked
        hidden_BTD, new = scan_layers(read, hidden_BTD, (layers, cached, local))
        if new is not None:
            added = Cache(key_LBKSH=new[0], value_LBKSH=new[1])
            cache = added if cache is None or unstacked else cache.write(added, offset)
        return self.norm(hidden_BTD), cache

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Return float32 logits `[..., V]` of hidden states `[..., D]`."""
        head, equation = (self.embed, "...D,VD->...V") if self.config.tied_head else (self.head, "...D,DV->...V")
        between = (None,) * (hidden.ndim - 2)
        hidden = constrain(hidden, "batch_at_vocab", *between, None)
        logits = jnp.einsum(equation, hidden, head[...], preferred_element_type=jnp.float32)
        return capped(constrain(logits, "batch_at_vocab", *between, "vocab"), self.config.logit_cap)

    def _embedded(self, inputs: Inputs) -> jax.Array:
        token_BT = constrain(inputs.token_BT, "batch_at_vocab", None)
        hidden_BTD = constrain(self.embed[...][token_BT], "batch_at_vocab", None, None)
        if self.config.scaled_embed:
            hidden_BTD *= jnp.asarray(self.config.width**0.5, hidden_BTD.dtype)
        return constrain(hidden_BTD, "batch", None, None)


def _view(config: DecoderConfig, local: jax.Array, seen: tuple[AttentionMasks, AttentionMasks]) -> AttentionMasks:
    """Return the masks of a layer; if all layers have one type the choice is made at trace time."""
    everywhere, nearby = seen
    if len(set(config.local)) == 1:
        return nearby if config.local[0] else everywhere
    chosen: AttentionMasks = jax.tree.map(ft.partial(jnp.where, local), nearby, everywhere)
    return chosen


def _cast(config: DecoderConfig, dtype: Any, layer: Params) -> Params:
    """Cast a layer before it is all-gathered, so that half the bytes are sent."""
    axes, _ = split(logical_axes(config)["layers"], config.lora)
    return jax.tree.map(lambda leaf, names: constrain(_rounded(leaf, dtype), *names[1:]), layer, axes)


def _rounded(leaf: jax.Array, dtype: Any) -> jax.Array:
    """Cast a leaf. The rounding keeps XLA from hoisting the cast out of the layer loop, which would copy all layers."""
    if leaf.dtype == dtype:
        return leaf
    kind = jnp.finfo(dtype)
    return jax.lax.reduce_precision(leaf, kind.nexp, kind.nmant).astype(dtype)


def _is_worth_keeping(primitive: Any, *inputs: Any, **terms: Any) -> bool:
    """Return True for matmuls with weights and fused attention; attention scores are large and cheap to recompute."""
    is_product = jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *inputs, **terms)
    return is_product or primitive.name in kernels.PRIMITIVES


def positions(mask_BS: jax.Array) -> jax.Array:
    """Return the number of real tokens before each position, so that padding does not shift them."""
    return jnp.maximum(jnp.cumsum(mask_BS, axis=-1, dtype=jnp.int32) - 1, 0)


def bind(config: DecoderConfig, params: Params) -> Decoder:
    """Return a decoder over these parameters; cheap enough to call in every trace."""
    model: Decoder = nnx.merge(_abstract_module(config)[0], params)
    return model


def init(config: DecoderConfig, key: jax.Array) -> Params:
    """Draw random float32 parameters; jit it with `out_shardings` to draw them sharded."""
    return _arrays(nnx.state(Decoder(config, rngs=nnx.Rngs(key))))


def abstract(config: DecoderConfig) -> Params:
    """Return the shapes and dtypes of the parameters; no memory is used."""
    return _arrays(_abstract_module(config)[1])


def logical_axes(config: DecoderConfig) -> Params:
    """Return the logical axes of every parameter, a tuple a leaf, in the structure of `abstract`."""

    def name(path: Any, variable: nnx.Variable[Any]) -> Axes:
        axes: Axes = variable.get_metadata()["axes"]
        return ("layers", *axes) if path[0].key == "layers" else axes

    named = jax.tree_util.tree_map_with_path(
        name, _abstract_module(config)[1], is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    axes: Params = _plain(named)
    return axes


def _arrays(state: Any) -> Params:
    params: Params = nnx.to_pure_dict(state)
    return params


def _plain(tree: Any) -> Any:
    return {key: _plain(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _stacked(config: DecoderConfig, rngs: nnx.Rngs) -> Layer:
    """Build all layers at once; each parameter has a leading layer axis."""

    def build(key: jax.Array) -> Params:
        return _arrays(nnx.state(Layer(config, rngs=nnx.Rngs(key))))

    graphdef = nnx.graphdef(nnx.eval_shape(lambda: Layer(config, rngs=nnx.Rngs(0))))
    layers: Layer = nnx.merge(graphdef, jax.vmap(build)(jax.random.split(rngs.params(), config.layers)))
    return layers


@ft.cache
def _abstract_module(config: DecoderConfig) -> tuple[Any, Any]:
    """Return the graph definition of the decoder and the shapes of its parameters."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    return graphdef, state
