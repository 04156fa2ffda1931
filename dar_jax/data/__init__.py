"""Where prompts come from. Words only: this room never imports jax.

A set is a frozen settings value with `load() -> Source`; `DATA` names the sets there are. `admit`
looks at every prompt with the tokenizer before a run, `prompt_ids` says which come at which step.
"""

from dar_jax.data.admission import Admitted, OnBad, admit
from dar_jax.data.docstrings import Docstrings
from dar_jax.data.minitldr import MiniTldr
from dar_jax.data.order import prompt_ids
from dar_jax.data.prompt_files import Files
from dar_jax.data.source import Source

DATA = {"files": Files, "minitldr": MiniTldr, "docstrings": Docstrings}

__all__ = [
    "DATA",
    "Admitted",
    "Docstrings",
    "Files",
    "MiniTldr",
    "OnBad",
    "Source",
    "admit",
    "prompt_ids",
]
