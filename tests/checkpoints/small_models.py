"""A small decoder of every family, sized by transformers' own defaults and keys where they are not stated."""

from transformers import AutoConfig

from dar_jax.models import DecoderConfig, families

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Families in which heads share the width evenly, and have no size of their own.
_EVEN = ("olmo2", "olmo3", "phi3")


def small(family: str, **changes: object) -> DecoderConfig:
    """Read the small decoder of a family from the config.json that transformers writes for it."""
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim" or family not in _EVEN}
    config = AutoConfig.for_model(family, **sizes, **changes).to_dict()
    return families.read({**config, "architectures": [families.FAMILIES[family].architecture]}, family)
