"""No field of any settings class accepts nonsense: the schema of a run is walked field by field."""

import dataclasses
import inspect
import typing
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from dar_jax.chat.scripted.server import ServerSettings
from dar_jax.config.run_config import RunConfig
from dar_jax.experiments.compare_settings import Comparison
from dar_jax.judging.questions.rubric_file import Rubric
from dar_jax.settings.fields import STRICT
from dar_jax.settings.hints import components, item_hint, members

# Text fields that may be empty, or whose class has a validator with its own message.
FREE_TEXT = {
    ("TokenizerSettings", "system"),
    ("Judging", "rubric_text"),
    ("Rubric", "instructions"),
    ("Rubric", "levels"),
    ("Example", "prompt"),
    ("Example", "completion"),
    ("Example", "why"),
}
NO_FLOAT = [float("inf"), float("-inf"), float("nan"), 1e308, -1e308, 1e-308, True, False, "inf", "nan", "1:30"]
NO_INTEGER = [10**30, -(10**30), "9" * 400, True, False, "1:30", 1.5]
NO_TEXT = ["", "   ", "\n", "a\0b", True, 3]


def _classes(hint):
    """Return the settings classes that a hint leads to."""
    found = list(components(hint))
    for part in members(hint):
        args = () if dataclasses.is_dataclass(part) else typing.get_args(part)
        found += [kind for arg in args for kind in _classes(arg)]
    return found


def _every_class(*roots):
    left, seen = list(roots), []
    while left:
        kind = left.pop()
        if kind not in seen:
            seen.append(kind)
            left += [inner for hint in typing.get_type_hints(kind).values() for inner in _classes(hint)]
    return seen


def _owner(kind, name):
    """Return the name of the class that declares a field."""
    return next(each.__name__ for each in reversed(kind.__mro__) if name in inspect.get_annotations(each))


FIELDS = {
    (_owner(kind, name), name): hint
    for kind in _every_class(RunConfig, ServerSettings, Comparison, Rubric)
    for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    if name in {field.name for field in dataclasses.fields(kind)}
}


def _nonsense(hint):
    """Return values that a hint must refuse, in lists or dicts where it holds those."""
    inner = [item_hint(hint)] if any(typing.get_origin(part) in (list, tuple) for part in members(hint)) else []
    wrong = [[value] for each in inner if not components(each) and each is not typing.Any for value in _nonsense(each)]
    for part in members(hint):
        if typing.get_origin(part) is dict and typing.get_args(part)[1] is not typing.Any:
            wrong += [{"k": value} for value in _nonsense(typing.get_args(part)[1])]
    scalars = {part for part in members(hint) if isinstance(part, type)}
    wrong += NO_FLOAT if float in scalars else []
    wrong += NO_INTEGER if int in scalars else []
    return wrong + (NO_TEXT if str in scalars or Path in scalars else [])


def test_the_walk_reaches_the_settings():
    assert {("Adafactor", "learning_rate"), ("Judging", "criteria"), ("Lora", "rank"), ("Price", "input")} <= set(
        FIELDS
    )
    assert len(FIELDS) > 120


def _accepts(adapter, value):
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def test_no_setting_accepts_nonsense():
    accepted = []
    for (owner, name), hint in FIELDS.items():
        adapter = TypeAdapter(hint, config=None if components(hint) else STRICT)
        wrong = [] if (owner, name) in FREE_TEXT else _nonsense(hint)
        accepted += [f"{owner}.{name}: {value!r}"[:100] for value in wrong if _accepts(adapter, value)]
    assert not accepted


@pytest.mark.parametrize("value", [{"a": float("inf")}, {"a": [{"b": float("nan")}]}, {"a": 10**30}])
@pytest.mark.parametrize("field", [("TokenizerSettings", "template_arguments"), ("OpenAIWire", "extra_body")])
def test_what_is_sent_as_json_is_finite(field, value):
    with pytest.raises(ValidationError):
        TypeAdapter(FIELDS[field], config=STRICT).validate_python(value)
