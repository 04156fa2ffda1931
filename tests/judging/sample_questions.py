"""Completions to judge, and a model that plants its verdicts."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.records import Completion, Prompt


def completions(texts: Sequence[str], prompt: str = "Say something planted.") -> list[Completion]:
    asked = Prompt(id=7, text=prompt)
    return [
        Completion(prompt=asked, sample=i, text=text, token_count=len(text.split()), ended=True)
        for i, text in enumerate(texts)
    ]


def planted(level: float) -> str:
    """A completion that the echoing model gives this level."""
    return f"I am worth PLANTED-{level} levels."


class Echo:
    """A scorer that reads its verdict out of the completion, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def __call__(self, prompt: str, completion: str) -> float:
        self.shown.append((prompt, completion))
        found = re.search(r"PLANTED-([0-9.]+) ", completion)
        return float(found[1]) if found else 1.0

    @property
    def model(self) -> ScriptedModel:
        return ScriptedModel(name="scripted-echo", scorer=self)


def the_first_by_default(params: Sequence[Any]) -> list[Any]:
    """Leave all but the first to the slow tests: they wait for what does not come, each for seconds."""
    first, *others = params
    given = [each if hasattr(each, "marks") else pytest.param(each) for each in others]
    return [first, *(pytest.param(*each.values, marks=[*each.marks, pytest.mark.slow]) for each in given)]
