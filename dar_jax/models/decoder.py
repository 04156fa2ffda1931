"""The decoder: embedding, layers stacked on a leading axis, head.

NNX defines the modules; what runs is a plain tree of arrays: `init` or `load` makes it, `bind` gives a
module over it inside a jitted function.
"""

import functools as ft
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.batches import Inputs
from dar_jax.models import kernels
from dar_jax.models.attention import Attention, View, capped, views
from dar_jax.models.cache import Cache, Past
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.layers import Axes, Mlp, Norm, random
from dar_jax.models.lora import join, split
from dar_jax.models.stack import scan, through
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
        """Read on; `context` is what `Attention` wants beside the hidden states."""
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
        keep: bool = False,
        gradients: Params | None = None,
        remat: bool = True,
    ) -> tuple[jax.Array, Cache | None]:
        """Read tokens; return the hidden states before the head `[B, T, D]`, and the cache if one came, or a new one of
        these tokens with `keep`.

        Without a cache S is T, and query t sees position s where s <= t and `mask_BS`. With one, S are its positions,
        the keys and values go to offset..offset+T, which must lie within S, and query t sees s <= offset + t.
        `position_BT` counts real tokens only (`positions`, of which it is the default).
        With `gradients`, to which those of the layers are added on the way back (`stack.through`), there is no cache,
        and each layer is cast to the embedding's dtype as it is come to; what enters it is kept, without `remat` its
        matrix products too.
        """
        position_BT = positions(inputs.mask_BS) if position_BT is None else position_BT
        seen = views(self.config, position_BT, inputs.mask_BS, None if cache is None else offset)
        graphdef, stacked = nnx.split(self.layers)
        layers, local, hidden_BTD = _arrays(stacked), jnp.array(self.config.local), self._embedded(inputs)
        config = self.config
        if gradients is not None:

            def learn(learnt: Any, fixed: Any, hidden_BTD: jax.Array, seen: Any) -> jax.Array:
                layer = nnx.merge(graphdef, join(learnt, fixed[0]))
                return layer(hidden_BTD, _view(config, fixed[1], seen), None)[0]

            learnt, fixed = split(layers, config.lora)
            cast = ft.partial(_cast, config, hidden_BTD.dtype)
            policy = jax.checkpoint_policies.nothing_saveable if remat else _is_worth_keeping
            learn = jax.checkpoint(learn, policy=policy, prevent_cse=False)
            hidden_BTD = through(learn, cast, learnt, (fixed, local), gradients, hidden_BTD, seen)
            return self.norm(hidden_BTD), None

        def read(hidden_BTD: jax.Array, layer: Any) -> tuple[jax.Array, Any]:
            params, cached, local = layer
            past = None if cached is None else Past(cached, offset if apart else None)
            hidden_BTD, new = nnx.merge(graphdef, params)(hidden_BTD, _view(config, local, seen), past)
            return hidden_BTD, new if keep or past is not None else None

        # A loop over stacked layers that wrote into the cache would copy it, layer by layer: it only reads, and all
        # layers' new positions are written after it. Layers that lie apart would be copied if written afterwards.
        cached = None if cache is None else (cache.key_LBKSH, cache.value_LBKSH)
        apart = cache is not None and cache.is_listed
        hidden_BTD, new = scan(read, hidden_BTD, (layers, cached, local))
        if new is not None:
            added = Cache(key_LBKSH=new[0], value_LBKSH=new[1])
            cache = added if cache is None or apart else cache.write(added, offset)
        return self.norm(hidden_BTD), cache

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Score every token of the vocabulary, float32; hidden `[..., D]` gives `[..., V]`."""
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


def _view(config: DecoderConfig, local: jax.Array, seen: tuple[View, View]) -> View:
    """Choose how a layer sees: where all are alike, before the program is compiled."""
    everywhere, nearby = seen
    if len(set(config.local)) == 1:
        return nearby if config.local[0] else everywhere
    chosen: View = jax.tree.map(ft.partial(jnp.where, local), nearby, everywhere)
    return chosen


def _cast(config: DecoderConfig, dtype: Any, layer: Params) -> Params:
    """Cast a layer where it lies: what is then gathered from other devices has half the bytes."""
    axes, _ = split(logical_axes(config)["layers"], config.lora)
    return jax.tree.map(lambda leaf, names: constrain(_rounded(leaf, dtype), *names[1:]), layer, axes)


def _rounded(leaf: jax.Array, dtype: Any) -> jax.Array:
    """Cast. Rounding before it keeps XLA from moving the cast out of the loop, over a second copy of all layers."""
    if leaf.dtype == dtype:
        return leaf
    kind = jnp.finfo(dtype)
    return jax.lax.reduce_precision(leaf, kind.nexp, kind.nmant).astype(dtype)


def _is_worth_keeping(primitive: Any, *inputs: Any, **terms: Any) -> bool:
    """Tell products with weights and fused attention from what is sooner made again: attention scores are large."""
    is_product = jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *inputs, **terms)
    return is_product or primitive.name in kernels.PRIMITIVES


def positions(mask_BS: jax.Array) -> jax.Array:
    """Count the real tokens before each position, so that padding does not move them."""
    return jnp.maximum(jnp.cumsum(mask_BS, axis=-1, dtype=jnp.int32) - 1, 0)


def bind(config: DecoderConfig, params: Params) -> Decoder:
    """Give a decoder over these parameters; cheap enough for every trace."""
    model: Decoder = nnx.merge(_abstract_module(config)[0], params)
    return model


def init(config: DecoderConfig, key: jax.Array) -> Params:
    """Draw random float32 parameters; jit it with `out_shardings` to draw them where they shall lie."""
    return _arrays(nnx.state(Decoder(config, rngs=nnx.Rngs(key))))


def abstract(config: DecoderConfig) -> Params:
    """Give the shapes of the parameters, without memory."""
    return _arrays(_abstract_module(config)[1])


def logical_axes(config: DecoderConfig) -> Params:
    """Name the axes of every parameter, in the structure of `abstract`: a tuple a leaf."""

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
    """Build every layer at once; each parameter gains a leading layer axis."""

    def build(key: jax.Array) -> Params:
        return _arrays(nnx.state(Layer(config, rngs=nnx.Rngs(key))))

    graphdef = nnx.graphdef(nnx.eval_shape(lambda: Layer(config, rngs=nnx.Rngs(0))))
    layers: Layer = nnx.merge(graphdef, jax.vmap(build)(jax.random.split(rngs.params(), config.layers)))
    return layers


@ft.cache
def _abstract_module(config: DecoderConfig) -> tuple[Any, Any]:
    """Give the decoder without numbers: its definition, and its parameters as shapes."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    return graphdef, state
