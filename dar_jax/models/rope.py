"""Rotary positions (Su et al. 2021), and the ways families stretch them to longer texts.

A scaling is a value with HF's own names for its settings, so that config.json is read and written as it is;
its `frequencies` changes those of the plain method. None of them depends on the length of the text read.
"""

import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic.dataclasses import dataclass

from dar_jax.settings.fields import STRICT, Count, Positive, PositiveOrZero

Frequencies = np.ndarray[Any, Any]
Rotation = tuple[jax.Array, jax.Array]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Linear:
    """Positions divided by a factor (Chen et al. 2023)."""

    rope_type: Literal["linear"] = "linear"
    factor: Positive
    amplitude: ClassVar[float] = 1.0

    def frequencies(self, plain_H: Frequencies, base: float) -> Frequencies:
        """Slow every frequency down alike."""
        return plain_H / self.factor


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Llama3:
    """Llama 3.1's: low frequencies divided, high ones kept, a ramp between."""

    rope_type: Literal["llama3"] = "llama3"
    factor: Positive
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_max_position_embeddings: Count
    amplitude: ClassVar[float] = 1.0

    def frequencies(self, plain_H: Frequencies, base: float) -> Frequencies:
        """Blend by how many turns a frequency makes in the original length."""
        turns_H = self.original_max_position_embeddings * plain_H / (2 * np.pi)
        kept_H = (turns_H - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return _blend(plain_H, plain_H / self.factor, np.clip(kept_H, 0, 1))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Yarn:
    """YaRN (Peng et al. 2023): a ramp over the dimensions, and larger scores by `attention_factor`."""

    rope_type: Literal["yarn"] = "yarn"
    factor: Positive
    original_max_position_embeddings: Count
    beta_fast: Positive = 32.0
    beta_slow: Positive = 1.0
    attention_factor: Positive | None = None
    truncate: bool = True

    @property
    def amplitude(self) -> float:
        """How much longer than one a rotated vector becomes; 0.1 ln(factor) + 1 unless stated."""
        return self.attention_factor or 0.1 * math.log(max(self.factor, 1)) + 1

    def frequencies(self, plain_H: Frequencies, base: float) -> Frequencies:
        """Keep the dimensions that turn more than `beta_fast` times, divide those below `beta_slow`."""
        size = 2 * len(plain_H)
        low, high = (self._dimension(turns, size, base) for turns in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        divided_H = (np.arange(len(plain_H)) - low) / (high - low or 0.001)
        return _blend(plain_H, plain_H / self.factor, 1 - np.clip(divided_H, 0, 1))

    def _dimension(self, turns: float, size: int, base: float) -> float:
        positions = self.original_max_position_embeddings
        return size * math.log(positions / (turns * 2 * math.pi)) / (2 * math.log(base))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LongRope:
    """LongRoPE (Ding et al. 2024): a divisor for each frequency, one set for texts up to the original length, one
    for longer ones. Texts here stay within the original length, where the long set is never used: it is carried
    for export. `factor` is the longest length over the original one.
    """

    rope_type: Literal["longrope"] = "longrope"
    factor: Positive
    original_max_position_embeddings: Count
    short_factor: tuple[Positive, ...]
    long_factor: tuple[Positive, ...]
    attention_factor: PositiveOrZero | None = None

    @property
    def amplitude(self) -> float:
        """How much longer than one a rotated vector becomes."""
        if self.attention_factor is not None:
            return self.attention_factor
        return math.sqrt(1 + math.log(max(self.factor, 1)) / math.log(self.original_max_position_embeddings))

    def frequencies(self, plain_H: Frequencies, base: float) -> Frequencies:
        """Divide each frequency by its own factor."""
        return plain_H / np.asarray(self.short_factor)


Scaling = Linear | Llama3 | Yarn | LongRope


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rope:
    """Rotary positions: the base, the share of each head that turns, and how they are stretched."""

    base: Positive
    share: Positive = 1.0
    scaling: Scaling | None = None

    def rotation(self, position_BT: jax.Array, head_size: int) -> Rotation:
        """Return cosine and sine of every position's angles, float32 `[B, T, H/2]`; equation 15 of the paper.

        Fewer than H/2 angles where only a share of the head turns.
        """
        turning = int(head_size * self.share)
        plain_H = self.base ** -(np.arange(0, turning, 2) / turning)
        scaled_H = self.scaling.frequencies(plain_H, self.base) if self.scaling else plain_H
        amplitude = self.scaling.amplitude if self.scaling else 1.0
        angle_BTH = position_BT[..., None].astype(jnp.float32) * scaled_H.astype(np.float32)
        return amplitude * jnp.cos(angle_BTH), amplitude * jnp.sin(angle_BTH)


def rotate(vector_BTNH: jax.Array, rotation: Rotation) -> jax.Array:
    """Turn each pair (i, i + half) of a head by its angle: the halves HF checkpoints are stored for.

    What lies beyond the rotation's pairs stays as it is.
    """
    cos, sin = rotation[0][:, :, None], rotation[1][:, :, None]
    half = cos.shape[-1]
    first, second, rest = jnp.split(vector_BTNH.astype(jnp.float32), [half, 2 * half], axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)
    return turned.astype(vector_BTNH.dtype)


def _blend(kept_H: Frequencies, divided_H: Frequencies, share_H: Frequencies) -> Frequencies:
    return kept_H * share_H + divided_H * (1 - share_H)
