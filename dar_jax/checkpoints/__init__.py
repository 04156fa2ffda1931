"""Weights and runs on disk: `huggingface` reads and writes models, `run_state` saves and resumes runs."""

from dar_jax.checkpoints.run_state import Checkpointing, RunState

__all__ = ["Checkpointing", "RunState"]
