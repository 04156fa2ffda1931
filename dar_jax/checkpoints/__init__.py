"""Weights and runs on disk: `huggingface` reads and writes models, `run_state` saves and resumes runs,
`saved_items` reads what a run has saved.
"""

from dar_jax.checkpoints.not_finite import not_finite, some
from dar_jax.checkpoints.run_state import Checkpointing, RunState
from dar_jax.checkpoints.saved_items import DamagedCheckpoint, load_params, saved_numbers

__all__ = [
    "Checkpointing",
    "DamagedCheckpoint",
    "RunState",
    "load_params",
    "not_finite",
    "saved_numbers",
    "some",
]
