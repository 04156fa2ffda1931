"""Mistral: Llama with the same sliding window in every layer, if there is one."""

from dar_jax.models.families.family import LLAMA_TENSORS, SILU, Family, head_size, local_layers

FAMILY = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    tensors=LLAMA_TENSORS,
    switches=lambda hf: {"head_size": head_size(hf), **local_layers(hf, lambda layer: True)},
    keys=lambda config: {"head_dim": config.head_size, "sliding_window": config.window},
    refuse=SILU,
    defaults={"rope_theta": 10_000.0, "rms_norm_eps": 1e-6},
)
