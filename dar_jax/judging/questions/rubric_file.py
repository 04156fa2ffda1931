"""A custom rubric in a file: what to look for, what the levels mean, graded examples.

instructions: |
You grade how well a completion explains a theorem to a beginner.
levels:                        # lowest first; default: 10 levels without descriptions
- wrong, or no explanation
- right, but only for those who knew it before
- right and clear
examples:                      # grades count from 0
- {prompt: "Why are there infinitely many primes?", completion: "There just are.", grade: 0, why: It gives no reason.}
"""

import json
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, CountOrZero
from dar_jax.settings.refusals import setting_error
from dar_jax.settings.yaml_settings import plain
from dar_jax.settings.yaml_text import read_text

_MOST = 10


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Example:
    """A completion and its correct grade, 0 the lowest."""

    prompt: str
    completion: str
    grade: CountOrZero
    why: str | None = None

    def line(self) -> str:
        """Return the example as shown to the judge, the reason before the grade."""
        told = {"prompt": self.prompt, "completion": self.completion}
        told |= {"why": self.why} if self.why else {}
        return json.dumps(told | {"grade": str(self.grade)}, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rubric:
    """The content of a rubric file."""

    instructions: str
    levels: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.instructions.strip():
            raise ValueError("instructions: empty; write what the judge shall look for")
        if self.levels and not 2 <= len(self.levels) <= _MOST:
            raise ValueError(f"levels: {len(self.levels)} are given; describe 2 to {_MOST}, the lowest first")
        if any(not level.strip() or "\n" in level.strip() for level in self.levels):
            raise ValueError("levels: each needs one line of words")
        count = len(self.levels) or _MOST
        for index, example in enumerate(self.examples):
            if example.grade >= count:
                raise ValueError(f"examples.{index}.grade: got {example.grade}, expected 0 to {count - 1}")
        return self


_RUBRIC = TypeAdapter(Rubric)


def read_rubric(path: Path) -> Rubric:
    """Read a rubric's file. Raises ValueError with one line: the file, the key, what came and what was expected."""
    try:
        text = read_text(path.expanduser(), "file")
    except SettingError as fault:
        raise ValueError(f"{fault}; name a YAML file with `instructions`") from None
    try:
        found = plain(text, Rubric)
    except ValueError as fault:
        raise ValueError(f"{path}: not readable as YAML: {fault}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected `instructions`, and if wanted `levels` and `examples`")
    try:
        return _RUBRIC.validate_python(found)
    except ValidationError as fault:
        raise ValueError(str(setting_error(fault.errors()[:1], found, Rubric, str(path)))) from None
