"""Gemma 2: soft caps, norms on both sides, every other layer local, scaled embeddings, GELU gates."""

from collections.abc import Mapping
from typing import Any

from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.families.family import (
    MATRIX_TENSORS,
    NORM_BOTH_TENSORS,
    OUTER_TENSORS,
    REFUSE,
    Family,
    layer_types,
    local_layers,
)

TENSORS = OUTER_TENSORS + NORM_BOTH_TENSORS + MATRIX_TENSORS
REFUSED = {**REFUSE, "hidden_activation": ("gelu_pytorch_tanh", None)}
DEFAULTS = {"tie_word_embeddings": True, "rope_theta": 10_000.0, "query_pre_attn_scalar": 256, "head_dim": 256}


def switches(hf: Mapping[str, Any], period: int) -> dict[str, Any]:
    """Read the fields shared by Gemma 2 and 3; by default every `period`-th layer is global."""
    return {
        "norms": "both",
        "centred_norms": True,
        "activation": "gelu_tanh",
        "scaled_embed": True,
        "head_size": hf["head_dim"],
        "score_size": float(hf["query_pre_attn_scalar"]),
        "score_cap": hf.get("attn_logit_softcapping"),
        "logit_cap": hf.get("final_logit_softcapping"),
        **local_layers(hf, lambda layer: (layer + 1) % period > 0),
    }


def keys(config: DecoderConfig) -> dict[str, Any]:
    """Return the keys that `switches` reads."""
    size = config.score_size or config.head_size
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": config.head_size,
        "query_pre_attn_scalar": int(size) if size == int(size) else size,
        "attn_logit_softcapping": config.score_cap,
        "final_logit_softcapping": config.logit_cap,
        "attention_bias": False,
        **layer_types(config),
    }


FAMILY = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    tensors=TENSORS,
    switches=lambda hf: switches(hf, period=2),
    keys=keys,
    refuse=REFUSED,
    defaults={
        **DEFAULTS,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window": 4096,
    },
)
