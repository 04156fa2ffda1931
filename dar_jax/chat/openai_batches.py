"""OpenAI's Batch API: a file of chat completions, answered within a day, for half the price.

Through the openai SDK. Rows of the answer come in any order, and some may not come at all: each has the name that its
question was given.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.failures import Blocked, ChatError, ConnectionLost, Rejected, TooSlow
from dar_jax.chat.openai import VENDOR_URL, OpenAIWire, chat_body
from dar_jax.chat.openai_client import open_client
from dar_jax.chat.openai_reply import blocked_answer, read_reply
from dar_jax.chat.status import filter_code, short, status_error
from dar_jax.chat.wire import Answer, Request

if TYPE_CHECKING:
    from openai.types import Batch

Result = TypeVar("Result")
# What OpenAI takes in one batch (November 2026), with room to spare.
MOST_REQUESTS, MOST_BYTES = 50_000, 190 * 2**20
_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
# Where our own mark of a batch lies in its metadata.
_MARK = "dar_jax"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a batch is: `status` is the server's word; `told` is why it failed, where it did."""

    status: str
    done: int
    total: int
    files: tuple[str, ...]
    told: str = ""

    @property
    def over(self) -> bool:
        """Whether no more answers come."""
        return self.status in _OVER


class OpenAIBatches:
    """The batches of one account. All methods raise ChatError; none tries again."""

    def __init__(self, settings: OpenAIWire) -> None:
        self._settings, self._key = settings, settings.credentials()
        self._client = open_client(settings.base_url, VENDOR_URL, self._key)

    def line(self, name: str, request: Request) -> bytes:
        """Write a question as a row of a batch's file."""
        row = {"custom_id": name, "method": "POST", "url": _PATH, "body": chat_body(self._settings, request)}
        return json.dumps(row).encode() + b"\n"

    async def submit(self, content: bytes, mark: str) -> str:
        """Begin a batch of these rows, marked so that `find` knows it again; return its id."""
        file = await self._tried(self._client.files.create(file=("questions.jsonl", content), purpose="batch"))
        batch = await self._tried(
            self._client.batches.create(
                input_file_id=file.id, endpoint=_PATH, completion_window="24h", metadata={_MARK: mark}
            )
        )
        return batch.id

    async def find(self, mark: str) -> str | None:
        """Look a batch up by its mark."""
        page = await self._tried(self._client.batches.list(limit=100))
        while True:
            for batch in page.data:
                if (batch.metadata or {}).get(_MARK) == mark:
                    return batch.id
            if not page.has_next_page():
                return None
            page = await self._tried(page.get_next_page())

    async def progress(self, batch: str) -> Progress:
        """Ask how far it is."""
        return _progress(await self._tried(self._client.batches.retrieve(batch)))

    async def rows(self, file: str) -> AsyncIterator[tuple[str, Answer | str]]:
        """Read a file of answers: under each question's name the answer, or why there is none."""
        content = await self._tried(self._client.files.content(file))
        for line in self._key.redact(content.content.decode("utf-8", "replace")).split("\n"):
            if line.strip():
                yield _row(line)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def _tried(self, call: Awaitable[Result]) -> Result:
        import openai

        try:
            return await call
        except openai.APIStatusError as error:
            message, body = self._key.redact(error.message), self._key.redact(str(error.body))
            raise status_error(error.status_code, message, error.response.headers, body) from None
        except openai.APITimeoutError:
            raise TooSlow("the server did not answer in time") from None
        except openai.APIConnectionError as error:
            raise ConnectionLost(f"the connection failed: {self._shown(error.__cause__ or error)}") from None
        except Exception as error:
            raise Rejected(f"the openai SDK failed: {self._shown(error)}") from None

    def _shown(self, error: BaseException) -> str:
        return short(self._key.redact(f"{type(error).__name__} {error}"))


def _progress(batch: "Batch") -> Progress:
    counts, told = batch.request_counts, (batch.errors and batch.errors.data) or []
    files = (batch.output_file_id, batch.error_file_id)
    return Progress(
        status=batch.status,
        done=counts.completed + counts.failed if counts else 0,
        total=counts.total if counts else 0,
        files=tuple(file for file in files if file),
        told=short("; ".join(str(each.message) for each in told)),
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


def _row(line: str) -> tuple[str, Answer | str]:
    try:
        row = _ROW.validate_json(line)
    except pydantic.ValidationError:
        return "", f"not a row of answers: {short(line)!r}"
    if row.response is None:
        return row.custom_id, _told(row.error) or "neither an answer nor an error"
    return row.custom_id, _read(row.response)


def _read(response: _Response) -> Answer | str:
    body = response.body if isinstance(response.body, str) else json.dumps(response.body)
    try:
        if str(response.status_code) == "200":
            return read_reply(body)
        inner = response.body if isinstance(response.body, dict) else {}
        told = f"HTTP {response.status_code}: {_told(inner.get('error')) or 'no reason given'}"
        if code := filter_code(body):
            return blocked_answer(Blocked(f"{code}: {told}", body))
        return told
    except ChatError as error:
        return str(error)


def _told(error: Any) -> str:
    if not isinstance(error, Mapping):
        return ""
    return short(": ".join(str(error[name]) for name in ("code", "message") if error.get(name)))
