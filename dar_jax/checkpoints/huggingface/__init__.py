"""Hugging Face folders: `load` streams one onto the mesh, `save` writes one atomically."""

from dar_jax.checkpoints.huggingface.folder import new_folder, read_config, write_json
from dar_jax.checkpoints.huggingface.weights import load
from dar_jax.checkpoints.huggingface.writing import Dtype, check_finite, save, write_config, write_model
from dar_jax.tokens.model_files import read_json

__all__ = [
    "Dtype",
    "check_finite",
    "load",
    "new_folder",
    "read_config",
    "read_json",
    "save",
    "write_config",
    "write_json",
    "write_model",
]
