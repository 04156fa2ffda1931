"""Parse a reply's body with a pydantic model; a misfit is returned as the JSON object and the wrong field."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic
from pydantic import TypeAdapter

T = TypeVar("T")

# Longer numbers are no counts; Python refuses to read those of more than 4,300 digits.
_LONGEST_NUMBER = 30


@dataclass(frozen=True)
class Misfit:
    """A body that does not fit the model: its JSON object (empty if there is none), and the wrong field."""

    found: dict[str, Any]
    fault: str


def read_by(model: TypeAdapter[T], body: str, name: str) -> T | Misfit:
    """Return a body as the model; of server-sent events the last one with the field `name` is used."""
    try:
        return model.validate_json(body)
    except pydantic.ValidationError:
        found = _object(body, name)
    try:
        return model.validate_python(found)
    except pydantic.ValidationError as error:
        return Misfit(found, _fault(error, found))


def _object(body: str, name: str) -> dict[str, Any]:
    if isinstance(whole := _loaded(body), dict):
        return whole
    events = [event for event in _events(body) if isinstance(event, dict)]
    named = [event for event in events if event.get(name)] or [event for event in events if name in event]
    # The usage may come in an event of its own.
    counted = [{"usage": event["usage"]} for event in events if event.get("usage")]
    return {**named[-1], **(counted[-1] if counted else {})} if named else {}


def _fault(error: pydantic.ValidationError, body: Mapping[str, Any]) -> str:
    """Return the path of the wrong field, and what was expected."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    # Of a field that may be of several kinds, each tells its own fault: the deepest is of the kind that came.
    path, told = max(((_path(each["loc"], body), each["msg"]) for each in faults), key=lambda each: len(each[0]))
    return f"{'.'.join(path) or 'the body'}: {told[:1].lower()}{told[1:]}"


def _path(location: Sequence[int | str], body: Any) -> list[str]:
    """Return an error's location without the union members that pydantic adds."""
    path = list[str]()
    for index, part in enumerate(location):
        if isinstance(body, Mapping) and (part in body or index == len(location) - 1):
            path, body = [*path, str(part)], body.get(part, 0)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            path, body = [*path, str(part)], body[part]
    return path


def _events(body: str) -> Iterator[Any]:
    for line in body.split("\n"):
        if line.startswith("data:"):
            yield _loaded(line.removeprefix("data:"))


def _loaded(text: str) -> Any:
    try:
        found = json.loads(text, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    # Half a character, which JSON can hold and UTF-8 cannot.
    whole = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(whole, parse_int=_number)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")
