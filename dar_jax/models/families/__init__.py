"""The architectures the decoder can be, and how to read and write their HF config.json."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dar_jax.errors import SettingError
from dar_jax.models.config import DecoderConfig
from dar_jax.models.families import qwen2, qwen3
from dar_jax.models.families.family import Family

FAMILIES: dict[str, Family] = {"qwen2": qwen2.FAMILY, "qwen3": qwen3.FAMILY}

# Our field, HF's key; a third entry is what HF takes an absent key to mean, otherwise the key must be there.
_FIELDS: tuple[tuple[Any, ...], ...] = (
    ("vocab_size", "vocab_size"),
    ("width", "hidden_size"),
    ("layers", "num_hidden_layers"),
    ("heads", "num_attention_heads"),
    ("kv_heads", "num_key_value_heads"),
    ("mlp_width", "intermediate_size"),
    ("max_positions", "max_position_embeddings"),
    ("norm_eps", "rms_norm_eps"),
    ("init_std", "initializer_range", 0.02),
    ("tied_head", "tie_word_embeddings", False),
    ("bos_token_id", "bos_token_id", None),
    ("eos_token_id", "eos_token_id", None),
    ("pad_token_id", "pad_token_id", None),
)


def read(hf: Mapping[str, Any], source: str = "config.json") -> DecoderConfig:
    """Read an HF config.json. Raises SettingError, naming `source`, for what cannot be honoured."""
    family = _family(hf, source)
    for key, allowed in family.refuse.items():
        if key in hf and hf[key] not in allowed:
            raise _unsupported(source, key, hf[key], f"{allowed[0]!r}")
    if any(kind != "full_attention" for kind in hf.get("layer_types") or ()):
        raise _unsupported(source, "layer_types", hf["layer_types"], "full_attention throughout")
    fields: dict[str, Any]
    try:
        fields = {ours: hf.get(key, *default) if default else hf[key] for ours, key, *default in _FIELDS}
        fields |= {"rope_base": _rope_base(hf, source), **family.switches(hf)}
    except KeyError as error:
        raise SettingError(f"{source}: {error.args[0]!r} is missing; {family.architecture} needs it") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise SettingError(f"{source}: a value is of the wrong kind: {error}") from None
    try:
        return DecoderConfig(family=family.model_type, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "sizes"
        raise SettingError(f"{source}: {where}: {first['msg']}, got {first['input']!r}") from None


def write(config: DecoderConfig) -> dict[str, Any]:
    """Write an HF config.json that transformers 4 and 5 read alike (both know `rope_theta`)."""
    family = FAMILIES[config.family]
    fields = {key: getattr(config, ours) for ours, key, *_ in _FIELDS}
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_act": "silu",
        "rope_theta": config.rope_base,
        **fields,
        **family.keys(config),
    }


def _family(hf: Mapping[str, Any], source: str) -> Family:
    names = hf.get("architectures") or [hf.get("model_type")]
    for family in FAMILIES.values():
        if {family.architecture, family.model_type} & set(names):
            return family
    known = ", ".join(family.architecture for family in FAMILIES.values())
    raise SettingError(f"{source}: architecture {', '.join(map(str, names))} is not supported; supported: {known}")


def _rope_base(hf: Mapping[str, Any], source: str) -> float:
    """Read the rotary base from where transformers 5 or 4 writes it; refuse any scaling."""
    places = [{**hf}, *({**(hf.get(key) or {})} for key in ("rope_parameters", "rope_scaling"))]
    for place in places[1:]:
        kind = place.get("rope_type", place.get("type", "default"))
        if kind != "default" or place.get("partial_rotary_factor", 1) != 1:
            raise _unsupported(source, "rope scaling", kind, "'default'")
    bases = {float(place["rope_theta"]) for place in places if "rope_theta" in place}
    if len(bases) > 1:
        raise SettingError(f"{source}: two values of rope_theta, {sorted(bases)}; leave one")
    if not bases:
        raise KeyError("rope_theta")
    return bases.pop()


def _unsupported(source: str, key: str, value: Any, expected: str) -> SettingError:
    return SettingError(
        f"{source}: {key} {value!r} is not supported, only {expected}; ignoring it would change the model"
    )
