"""OpenAI's Batch API, through the openai SDK: a file of chat completions, answered within a day at half the price.

Result rows come in any order, and some may be missing: each has the name of its question.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.failures import (
    Blocked,
    ChatError,
    ConnectionLost,
    Rejected,
    TooSlow,
    filter_code,
    shorten,
    status_error,
)
from dar_jax.chat.openai import OpenAIWire, chat_body, open_client
from dar_jax.chat.openai_reply import blocked_answer, read_reply
from dar_jax.chat.wire import Answer, Request

if TYPE_CHECKING:
    from openai.types import Batch

Result = TypeVar("Result")
# A little below OpenAI's limits for one batch (November 2026).
MOST_REQUESTS, MOST_BYTES = 50_000, 190 * 2**20
_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
# The metadata field with our mark of a batch.
_MARK = "dar_jax"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a batch: `status` is the server's word, `error` why the batch failed, if it did."""

    status: str
    done: int
    total: int
    files: tuple[str, ...]
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether the batch has ended, with or without success."""
        return self.status in _OVER


class OpenAIBatches:
    """The batches of one account. All methods raise ChatError; none retries."""

    def __init__(self, settings: OpenAIWire) -> None:
        self._settings, self._credentials = settings, settings.credentials()
        self._client = open_client(settings.base_url, self._credentials)

    def line(self, name: str, request: Request) -> bytes:
        """Return a request as a row of a batch's file."""
        row = {"custom_id": name, "method": "POST", "url": _PATH, "body": chat_body(self._settings, request)}
        return json.dumps(row).encode() + b"\n"

    async def submit(self, content: bytes, mark: str) -> str:
        """Start a batch of these rows and return its id; `find` finds it by its mark."""
        file = await self._call(self._client.files.create(file=("questions.jsonl", content), purpose="batch"))
        batch = await self._call(
            self._client.batches.create(
                input_file_id=file.id, endpoint=_PATH, completion_window="24h", metadata={_MARK: mark}
            )
        )
        return batch.id

    async def find(self, mark: str) -> str | None:
        """Return the id of the batch with this mark, or None."""
        page = await self._call(self._client.batches.list(limit=100))
        while True:
            for batch in page.data:
                if (batch.metadata or {}).get(_MARK) == mark:
                    return batch.id
            if not page.has_next_page():
                return None
            page = await self._call(page.get_next_page())

    async def progress(self, batch: str) -> Progress:
        """Return the progress of a batch."""
        return _progress(await self._call(self._client.batches.retrieve(batch)))

    async def rows(self, file: str) -> AsyncIterator[tuple[str, Answer | str]]:
        """Yield the rows of a result file: the name of each question, and its answer or the reason it has none."""
        content = await self._call(self._client.files.content(file))
        for line in self._credentials.redact(content.content.decode("utf-8", "replace")).split("\n"):
            if line.strip():
                yield read_row(line)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def _call(self, call: Awaitable[Result]) -> Result:
        import openai

        try:
            return await call
        except openai.APIStatusError as error:
            message, body = self._credentials.redact(error.message), self._credentials.redact(str(error.body))
            raise status_error(error.status_code, message, error.response.headers, body) from None
        except openai.APITimeoutError:
            raise TooSlow("the server did not answer in time") from None
        except openai.APIConnectionError as error:
            raise ConnectionLost(f"the connection failed: {self._shown(error.__cause__ or error)}") from None
        except Exception as error:
            raise Rejected(f"the openai SDK failed: {self._shown(error)}") from None

    def _shown(self, error: BaseException) -> str:
        return shorten(self._credentials.redact(f"{type(error).__name__} {error}"))


def _progress(batch: "Batch") -> Progress:
    counts, errors = batch.request_counts, (batch.errors and batch.errors.data) or []
    files = (batch.output_file_id, batch.error_file_id)
    return Progress(
        status=batch.status,
        done=counts.completed + counts.failed if counts else 0,
        total=counts.total if counts else 0,
        files=tuple(file for file in files if file),
        error=shorten("; ".join(str(each.message) for each in errors)),
    )


@pydantic.dataclasses.dataclass(frozen=True)
class _Response:
    status_code: Any = None
    body: Any = None


@pydantic.dataclasses.dataclass(frozen=True)
class _ResultLine:
    custom_id: str
    response: _Response | None = None
    error: Any = None


_ROW = TypeAdapter(_ResultLine)


def read_row(line: str) -> tuple[str, Answer | str]:
    """Parse a row of a result file: the name of its question, and the answer or the reason it has none."""
    try:
        row = _ROW.validate_json(line)
    except pydantic.ValidationError:
        return "", f"not a result row: {shorten(line)!r}"
    if row.response is None:
        return row.custom_id, _message(row.error) or "neither an answer nor an error"
    return row.custom_id, _read_response(row.response)


def _read_response(response: _Response) -> Answer | str:
    body = response.body if isinstance(response.body, str) else json.dumps(response.body)
    try:
        if str(response.status_code) == "200":
            return read_reply(body)
        inner = response.body if isinstance(response.body, dict) else {}
        message = f"HTTP {response.status_code}: {_message(inner.get('error')) or 'no reason given'}"
        if code := filter_code(body):
            return blocked_answer(Blocked(f"{code}: {message}", body))
        return message
    except ChatError as error:
        return str(error)


def _message(error: Any) -> str:
    if not isinstance(error, Mapping):
        return ""
    return shorten(": ".join(str(error[name]) for name in ("code", "message") if error.get(name)))
