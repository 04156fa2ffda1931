"""Rotary positions in config.json: transformers 4 and 5 spell them differently, and some files have both.

4:  rope_theta, rope_scaling, partial_rotary_factor (and a base for local layers) as separate keys
5:  rope_parameters with all of them, or with one block for each layer type
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dar_jax.errors import SettingError
from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.families.family import GLOBAL, LOCAL, Family
from dar_jax.models.rope import Linear, Llama3, LongRope, Rope, Scaling, Yarn

SCALINGS: dict[str, Any] = {"linear": Linear, "llama3": Llama3, "yarn": Yarn, "longrope": LongRope, "su": LongRope}
_ELSEWHERE = ("rope_theta", "partial_rotary_factor", "rope_type", "type")


def read(family: Family, hf: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read the rotary positions of global and local layers: fields of DecoderConfig.

    Raises SettingError naming `source` if two spellings disagree or a scaling is unknown.
    """
    stated = hf.get("rope_parameters") or {}
    if not isinstance(stated.get(GLOBAL, {}), Mapping) or not isinstance(stated.get(LOCAL, {}), Mapping):
        raise TypeError(f"rope_parameters {stated!r}")
    nested = GLOBAL in stated or LOCAL in stated
    block = stated.get(GLOBAL, {}) if nested else hf.get("rope_scaling") or stated
    bases = {float(each["rope_theta"]) for each in (stated, hf.get("rope_scaling") or {}, hf) if "rope_theta" in each}
    if len(bases) > 1:
        raise SettingError(f"{source}: two values of rope_theta, {sorted(bases)}; leave one")
    defaults = {**family.defaults, **hf, **({"rope_theta": bases.pop()} if bases else {})}
    fields: dict[str, Any] = {"rope": _rope(block, defaults, source)}
    if family.local_base:
        local = {"rope_theta": defaults[family.local_base], **(stated.get(LOCAL, {}) if nested else {})}
        fields["local_rope"] = _rope(local, defaults, source)
    return fields | _longest(fields["rope"].scaling)


def write(family: Family, config: DecoderConfig) -> dict[str, Any]:
    """Return the keys that `read` reads, in the spelling of transformers 4; if layer types differ also in that of 5,
    which would use one base for both.
    """
    scaling = config.rope.scaling
    keys: dict[str, Any] = {"rope_theta": config.rope.base, "rope_scaling": _scaling_keys(scaling)}
    if config.rope.share != 1:
        keys["partial_rotary_factor"] = config.rope.share
    if isinstance(scaling, LongRope):
        original = scaling.original_max_position_embeddings
        keys["original_max_position_embeddings"] = original
        keys["max_position_embeddings"] = round(original * scaling.factor)
    if family.local_base:
        local = config.local_rope or config.rope
        keys["rope_parameters"] = {GLOBAL: _block(config.rope), LOCAL: _block(local)}
        keys |= {family.local_base: local.base} if family.local_base != "rope_theta" else {}
    return keys


def _rope(block: Mapping[str, Any], hf: Mapping[str, Any], source: str) -> Rope:
    kind = block.get("rope_type", block.get("type", "default"))
    base, share = block.get("rope_theta", hf.get("rope_theta")), block.get("partial_rotary_factor")
    if base is None:
        raise KeyError("rope_theta")
    rope = Rope(base=float(base), share=float(hf.get("partial_rotary_factor") or 1 if share is None else share))
    if kind == "default":
        return rope
    if kind not in SCALINGS:
        known = ", ".join(repr(name) for name in ("default", *SCALINGS))
        raise SettingError(f"{source}: rope scaling {kind!r} is not supported, only {known}")
    given = {key: value for key, value in block.items() if key not in _ELSEWHERE and value is not None}
    scaling = TypeAdapter(SCALINGS[kind]).validate_python(_completed(kind, given, hf))
    return dataclasses.replace(rope, scaling=scaling)


def _completed(kind: str, given: dict[str, Any], hf: Mapping[str, Any]) -> dict[str, Any]:
    """Add what HF reads outside the block: the original length, and the factor it implies."""
    if kind == "linear":
        return given
    longest = hf["max_position_embeddings"]
    original = hf.get("original_max_position_embeddings") or given.get("original_max_position_embeddings", longest)
    filled = {"factor": longest / original, **given, "original_max_position_embeddings": original}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in filled.items()}


def _longest(scaling: Scaling | None) -> dict[str, Any]:
    """Limit texts to the length for which LongRoPE's short factors apply."""
    if not isinstance(scaling, LongRope):
        return {}
    return {"max_positions": scaling.original_max_position_embeddings}


def _scaling_keys(scaling: Scaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    given = {key: value for key, value in dataclasses.asdict(scaling).items() if value is not None}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}


def _block(rope: Rope) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": rope.base, **(_scaling_keys(rope.scaling) or {})}
