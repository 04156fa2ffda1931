"""What a cell of a column may hold: a string, or a list of messages as TRL writes them.

Raises ValueError saying what is wrong with the cell; the source adds which row it was.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dar_jax.records import Message

_HEADINGS = {"system": "System", "user": "User", "assistant": "Assistant"}


def conversation(cell: Any) -> tuple[Message, ...]:
    """Read a list of `{"role": ..., "content": ...}` that waits for the assistant's turn."""
    messages = _messages(cell)
    if messages and messages[-1].role == "assistant":
        raise ValueError("the conversation ends with an assistant turn, there is nothing to answer")
    return messages


def template_turns(cell: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Return the messages of a conversation with all their keys, None where none has more than role and content."""
    if all(value is None or key in ("role", "content") for turn in cell for key, value in turn.items()):
        return None
    return tuple({**_without_nulls(turn), "content": _content(turn)} for turn in cell)


def completion_text(cell: Any) -> str:
    """Read a demonstration: a string, or a list that holds one assistant message."""
    if isinstance(cell, str):
        return cell
    messages = _messages(cell)
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = [message.role for message in messages]
        raise ValueError(f"expected one assistant message, got the roles {roles}")
    return messages[0].content


def tools(cell: Any) -> tuple[Mapping[str, Any], ...] | None:
    """Read the tools of a row, a list of JSON schemas or such a list as a string; None where it has none."""
    found = _loaded(cell, "a list of tool schemas")
    if found in (None, []):
        return None
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(t, Mapping) for t in found):
        raise ValueError(f"expected a list of tool schemas, got {_shown(cell)}; rename the column if it holds no tools")
    return tuple(_without_nulls(found))


def template_arguments(cell: Any) -> dict[str, Any]:
    """Read the arguments of a row for the chat template, an object or one as a string."""
    found = _loaded(cell, "an object of template arguments")
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"expected an object of template arguments, got {_shown(cell)}")
    return dict(_without_nulls(found))


def transcript(messages: Sequence[Message]) -> str:
    """Write a conversation as a judge reads it; a single user turn is its bare text."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    turns = (f"{_HEADINGS.get(message.role, message.role)}: {message.content}" for message in messages)
    return "\n\n".join(turns)


def _messages(cell: Any) -> tuple[Message, ...]:
    if not isinstance(cell, Sequence) or isinstance(cell, str | bytes):
        raise ValueError(f"expected a string or a list of messages, got {_shown(cell)}")
    return tuple(_message(turn) for turn in cell)


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise ValueError(f'expected a message with "role" and "content", got {_shown(turn)}')
    content, calls = _content(turn), turn.get("tool_calls")
    said = "" if not calls else json.dumps(_without_nulls(calls), ensure_ascii=False, default=str)
    if content is None and not said:
        raise ValueError(f"the {turn['role']} message has no text content, got {_shown(content)}")
    return Message(role=turn["role"], content="\n".join(filter(None, (content, said))))


def _content(turn: Mapping[str, Any]) -> str | None:
    content = turn.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = "".join(_part(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise ValueError(f"the {turn['role']} message has no text content, got {_shown(content)}")
    return content


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ValueError(f"only text parts can be read, got {_shown(part)}")


def _loaded(cell: Any, wanted: str) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell) if cell.strip() else None
    except (ValueError, RecursionError):
        raise ValueError(
            f"expected {wanted}, got {_shown(cell)}; rename the column if it holds something else"
        ) from None


def _without_nulls(value: Any) -> Any:
    """Drop the nulls of objects: a table gives every object the keys of all."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_nulls(item) for item in value]
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
