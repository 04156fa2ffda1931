"""The supported architectures; reading and writing their Hugging Face config.json."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dar_jax.errors import SettingError
from dar_jax.models.decoder_config import MAX_LAYERS, DecoderConfig
from dar_jax.models.families import gemma2, gemma3, llama, mistral, olmo2, olmo3, phi3, qwen2, qwen3, rope_settings
from dar_jax.models.families.family import GLOBAL, LOCAL, Family

FAMILIES: dict[str, Family] = {
    each.FAMILY.model_type: each.FAMILY for each in (qwen2, qwen3, llama, mistral, gemma2, gemma3, olmo2, olmo3, phi3)
}

# Our field, HF's key, and HF's default for an absent key; without a default the key is required.
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
    """Read an HF config.json. Raises SettingError, naming `source`, for what is not supported."""
    family = _family(hf, source)
    try:
        for key, allowed in family.refuse.items():
            if key in hf and hf[key] not in allowed:
                raise _unsupported(source, key, hf[key], f"{allowed[0]!r}")
        _check_layers(hf, source)
        full = _completed(family, hf)
        fields = {ours: full.get(key, *default) if default else full[key] for ours, key, *default in _FIELDS}
        fields |= {**family.switches(full), **rope_settings.read(family, hf, source)}
        return DecoderConfig(family=family.model_type, **fields)
    except KeyError as error:
        raise SettingError(f"{source}: {error.args[0]!r} is missing; {family.architecture} needs it") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "sizes"
        raise SettingError(f"{source}: {where}: {first['msg']}, got {_shown(first['input'])}") from None
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise SettingError(f"{source}: a value has the wrong type: {str(error)[:200]}") from None


def write(config: DecoderConfig) -> dict[str, Any]:
    """Return an HF config.json that transformers 4 and 5 both read."""
    family = FAMILIES[config.family]
    fields = {key: getattr(config, ours) for ours, key, *_ in _FIELDS}
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_act": "silu",
        **fields,
        **rope_settings.write(family, config),
        **family.keys(config),
    }


def fused(config: DecoderConfig) -> tuple[tuple[str, ...], ...]:
    """Return the groups of parameters that Hugging Face stores as one matrix, by their paths with slashes."""
    groups = dict.fromkeys(row.fused_with for row in FAMILIES[config.family].tensors if row.fused_with)
    return tuple(tuple("/".join(path) for path in group) for group in groups)


def _family(hf: Mapping[str, Any], source: str) -> Family:
    stated = hf.get("architectures") or [hf.get("model_type")]
    names = [each for each in (stated if isinstance(stated, list) else [stated]) if isinstance(each, str)]
    for family in FAMILIES.values():
        if {family.architecture, family.model_type} & set(names):
            return family
    known = ", ".join(family.architecture for family in FAMILIES.values())
    found = ", ".join(names)[:200] or _shown(stated)
    raise SettingError(f"{source}: architecture {found} is not supported; supported: {known}")


def _check_layers(hf: Mapping[str, Any], source: str) -> None:
    """Raise SettingError for layers of unknown types, or too many of them."""
    count, listed = hf.get("num_hidden_layers"), hf.get("layer_types") or ()
    if isinstance(count, int) and count > MAX_LAYERS:
        raise SettingError(f"{source}: num_hidden_layers {_shown(count)}; expected at most {MAX_LAYERS}")
    local = LOCAL in listed
    if any(kind not in (GLOBAL, LOCAL) for kind in listed) or (local and hf.get("sliding_window") is None):
        raise _unsupported(source, "layer_types", listed, f"{GLOBAL!r}, and {LOCAL!r} with a sliding_window")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _completed(family: Family, hf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with HF's defaults for absent keys."""
    given = {**family.defaults, **hf}
    if given.get("num_key_value_heads", 0) is None:
        given["num_key_value_heads"] = given.get("num_attention_heads")
    return given


def _unsupported(source: str, key: str, value: Any, expected: str) -> SettingError:
    return SettingError(
        f"{source}: {key} {_shown(value)} is not supported, only {expected}; ignoring it would change the model"
    )
