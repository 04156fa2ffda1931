"""What a decoder is: its sizes and switches, however its files spell them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.models.lora import Lora
from dar_jax.models.rope import Rope
from dar_jax.settings.fields import STRICT, Count, CountOrZero, Positive, PositiveOrZero

# Far beyond any model, near enough that nothing made of a size takes long.
MAX_LAYERS, MAX_SIZE = 4096, 1 << 24
Size = Annotated[Count, Field(le=MAX_SIZE)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderConfig:
    """Sizes and switches of a decoder; `families` reads one from an HF config.json and writes it back.

    `head_size` is free of `width / heads`. `max_positions` is the longest text it was made for. `init_std` is the
    spread of random weights. The token ids are carried for export alone.

    norms          where a layer normalises: before each part, after it, or both
    centred_norms  a norm's scale is one plus its parameter
    qk_norm        queries and keys are normalised, each head by itself or all heads together
    scaled_embed   embeddings are multiplied by the square root of the width
    score_size     attention scores are divided by its square root; the head size unless stated
    score_cap      attention scores pass through cap * tanh(score / cap), logits through `logit_cap` alike
    window         a local layer sees so many positions, its own among them
    local_layers   which layers are local: all, where a window is stated and this is empty
    local_rope     the rotary positions of local layers, where they differ
    lora           adapters beside the matrices; no part of the model's own files
    attention      what computes it in the passes without a cache (`kernels.py`); no part of the files either
    """

    family: str
    vocab_size: Size
    width: Size
    layers: Annotated[Count, Field(le=MAX_LAYERS)]
    heads: Size
    kv_heads: Size
    head_size: Size
    mlp_width: Size
    max_positions: Size
    rope: Rope
    norm_eps: Positive
    init_std: PositiveOrZero = 0.02
    tied_head: bool = False
    qkv_bias: bool = False
    qk_norm: Literal["head", "all"] | None = None
    norms: Literal["before", "after", "both"] = "before"
    centred_norms: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    scaled_embed: bool = False
    score_size: Positive | None = None
    score_cap: Positive | None = None
    logit_cap: Positive | None = None
    window: Size | None = None
    local_layers: tuple[bool, ...] = ()
    local_rope: Rope | None = None
    lora: Lora | None = None
    attention: Literal["xla", "splash", "cudnn"] = "xla"
    bos_token_id: CountOrZero | None = None
    eos_token_id: CountOrZero | tuple[CountOrZero, ...] | None = None
    pad_token_id: CountOrZero | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly")
        if self.head_size % 2:
            raise ValueError(f"head size {self.head_size} is odd; rotary positions turn pairs")
        if self.local_layers and len(self.local_layers) != self.layers:
            raise ValueError(f"{len(self.local_layers)} layers are called local or not, but there are {self.layers}")
        if any(self.local_layers) and self.window is None:
            raise ValueError("some layers are local, but no window is stated")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each logical axis."""
        return {
            "layers": self.layers,
            "vocab": self.vocab_size,
            "vocab_width": self.width,
            "width": self.width,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_size": self.head_size,
            "mlp": self.mlp_width,
            "rank": self.lora.rank if self.lora else 0,
        }

    @property
    def local(self) -> tuple[bool, ...]:
        """Whether each layer attends only to the window."""
        return self.local_layers or (self.window is not None,) * self.layers
