"""Write adapters as a folder that PEFT loads: adapter_config.json and adapter_model.safetensors.

Source of names and keys: huggingface/peft, `LoraConfig` and `get_peft_model_state_dict`.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from dar_jax.checkpoints.huggingface import Dtype, check_finite, write_json
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params, families
from dar_jax.models.lora import Lora


def write_adapter(folder: Path, config: DecoderConfig, params: Params, base: str, dtype: Dtype) -> None:
    """Write the adapters of `params` over the model called `base`.

    Raises SettingError if the family stores an adapted matrix in one tensor with others, or a tensor is not finite.
    """
    assert config.lora is not None
    tensors: dict[str, np.ndarray] = {}
    for row in families.FAMILIES[config.family].tensors:
        holder = _at(params, row.path[:-1])
        if row.path[-1] != "kernel" or "lora_a" not in holder:
            continue
        if row.fused_with:
            raise SettingError(
                f"--adapter: {config.family} keeps {row.name} as one tensor of several matrices, for which PEFT has no"
                " adapters of this form; leave --adapter out to export the merged model"
            )
        for layer, (low, high) in enumerate(zip(holder["lora_a"], holder["lora_b"], strict=True)):
            name = "base_model.model." + row.name.format(layer).removesuffix(".weight")
            tensors[f"{name}.lora_A.weight"] = _flat(low, (-1, config.lora.rank), dtype)
            tensors[f"{name}.lora_B.weight"] = _flat(high, (config.lora.rank, -1), dtype)
    for name, tensor in tensors.items():
        check_finite(name, tensor)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(folder / "adapter_config.json", _adapter_config(config.lora, base))


def _adapter_config(lora: Lora, base: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(lora.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _flat(array: Any, shape: tuple[int, int], dtype: Dtype) -> np.ndarray:
    """Return one adapter matrix as PEFT stores it: transposed."""
    return np.ascontiguousarray(np.asarray(array).reshape(shape).T).astype(jnp.dtype(dtype))


def _at(params: Params, path: tuple[str, ...]) -> Any:
    for part in path:
        params = params[part]
    return params
