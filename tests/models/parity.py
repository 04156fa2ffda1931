"""Small models of every family, in the configurations that tell families apart, as config.json spells them."""

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "attn_implementation": "eager",
}
TIED = {"num_key_value_heads": 1, "head_dim": 10, "tie_word_embeddings": True}
UNTIED = {"num_key_value_heads": 2, "head_dim": 4, "tie_word_embeddings": False}
ALL_HEADS = {"num_key_value_heads": 4, "head_dim": 6, "tie_word_embeddings": False}
WINDOW = {"sliding_window": 5}
YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}
LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
LLAMA3 = {
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
}
LONGROPE = {
    "original_max_position_embeddings": 64,
    "rope_scaling": {"rope_type": "longrope", "short_factor": [1.1, 2.0], "long_factor": [2.0, 9.0]},
}

# Family, then what is set beside the sizes; a name is what a row of the matrix is called.
MATRIX: dict[str, dict[str, dict]] = {
    "qwen2": {
        "tied": TIED,
        "untied": UNTIED,
        "all-heads-yarn": ALL_HEADS | YARN,
        "window": UNTIED | WINDOW | {"use_sliding_window": True, "max_window_layers": 1},
    },
    "qwen3": {"tied": TIED, "untied": UNTIED, "all-heads-yarn": ALL_HEADS | YARN},
    "llama": {
        "tied": TIED,
        "untied": UNTIED,
        "all-heads-llama3": ALL_HEADS | LLAMA3,
        "tied-linear": TIED | LINEAR,
    },
    "mistral": {
        "tied-window": TIED | WINDOW,
        "untied": UNTIED | {"sliding_window": None},
        "all-heads-yarn-window": ALL_HEADS | WINDOW | YARN,
    },
    "gemma2": {
        "tied-window": TIED | WINDOW | {"query_pre_attn_scalar": 7},
        "untied-caps": UNTIED | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        "all-heads-no-caps": ALL_HEADS | WINDOW | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    },
    "gemma3_text": {
        "tied-window": TIED | WINDOW | {"sliding_window_pattern": 2, "query_pre_attn_scalar": 7},
        "untied-caps": UNTIED | {"rope_local_base_freq": 50.0, "attn_logit_softcapping": 1.0},
        "all-heads-linear": ALL_HEADS | WINDOW | LINEAR | {"sliding_window_pattern": 3},
    },
    "olmo2": {"tied": TIED, "untied": UNTIED, "all-heads-yarn": ALL_HEADS | YARN},
    "olmo3": {
        "tied-window": TIED | WINDOW,
        "untied": UNTIED,
        "all-heads-yarn": ALL_HEADS | WINDOW | YARN,
    },
    "phi3": {
        "tied-window": TIED | WINDOW | {"partial_rotary_factor": 0.6},
        "untied": UNTIED,
        "all-heads-longrope": ALL_HEADS | {"head_dim": 4} | LONGROPE,
    },
}


def sizes(family: str, name: str) -> dict:
    """Give one configuration whole, as transformers' `AutoConfig.for_model` takes it."""
    return {**SIZES, "model_type": family, **MATRIX[family][name]}
