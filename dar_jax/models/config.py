"""What a decoder is: its sizes and switches, however its files spell them."""

from typing import Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderConfig:
    """Sizes and switches of a decoder; `families` reads one from an HF config.json and writes it back.

    `head_size` is free of `width / heads`. `init_std` is the spread of random weights. The token ids are
    carried for export alone.
    """

    family: str
    vocab_size: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_size: PositiveInt
    mlp_width: PositiveInt
    max_positions: PositiveInt
    rope_base: PositiveFloat
    norm_eps: PositiveFloat
    init_std: NonNegativeFloat = 0.02
    tied_head: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    bos_token_id: NonNegativeInt | None = None
    eos_token_id: NonNegativeInt | tuple[NonNegativeInt, ...] | None = None
    pad_token_id: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads evenly")
        if self.head_size % 2:
            raise ValueError(f"head size {self.head_size} is odd; rotary positions turn pairs")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """How long each logical axis is."""
        return {
            "layers": self.layers,
            "vocab": self.vocab_size,
            "width": self.width,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_size": self.head_size,
            "mlp": self.mlp_width,
        }
