"""What a cell of a column may hold: a string, or a list of messages as TRL writes them.

Raises ValueError saying what is wrong with the cell; the source adds which row it was.
"""

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


def completion_text(cell: Any) -> str:
    """Read a demonstration: a string, or a list that holds one assistant message."""
    if isinstance(cell, str):
        return cell
    messages = _messages(cell)
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = [message.role for message in messages]
        raise ValueError(f"expected one assistant message, got the roles {roles}")
    return messages[0].content


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
    content = turn.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        content = "".join(_part(part) for part in content)
    if not isinstance(content, str):
        raise ValueError(f"the {turn['role']} message has no text content, got {_shown(content)}")
    return Message(role=turn["role"], content=content)


def _part(part: Any) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ValueError(f"only text parts can be read, got {_shown(part)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
