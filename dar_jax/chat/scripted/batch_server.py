"""The scripted server's side of OpenAI's files and batches: answers come later, in another order, in files.

POST /v1/files, GET /v1/files/ID/content
POST /v1/batches, GET /v1/batches/ID, GET /v1/batches
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from aiohttp import web
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.chat.failures import Rejected
from dar_jax.chat.scripted.dialects import OPENAI
from dar_jax.chat.scripted.faults import draw
from dar_jax.chat.scripted.misbehaviour import error_response
from dar_jax.settings.fields import STRICT, SecondsOrZero, Share

# `missing`: the row is in neither file; `error`: it is in the error file; `foreign`: it has an unknown name.
RowFault = Literal["missing", "error", "foreign"]
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, Rejected)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BatchBehaviour:
    """The behaviour of batches: the seconds each takes, the share of rows with each fault, and the final status. An
    `expired` or `cancelled` batch has every second answer, a `failed` one has none.
    """

    seconds: SecondsOrZero = 0.0
    faults: dict[RowFault, Share] = Field(default_factory=dict)
    ends: Literal["completed", "expired", "failed", "cancelled"] = "completed"


@dataclasses.dataclass(kw_only=True)
class _Batch:
    """A batch: its input file and metadata, the time at which it is over, and its output files."""

    id: str
    file: str
    over_at: float
    metadata: dict[str, str]
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)


class BatchDesk:
    """Files and batches of a running server. `respond` returns the reply to a chat completion's body, or raises."""

    def __init__(self, behaviour: BatchBehaviour, seed: int, respond: Callable[[Any], Mapping[str, Any]]) -> None:
        self._behaviour, self._seed, self._respond = behaviour, seed, respond
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _Batch] = {}

    @property
    def created(self) -> int:
        """The number of batches created."""
        return len(self._batches)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes of files and batches."""
        router.add_post("/v1/files", self._upload)
        router.add_get("/v1/files/{id}/content", self._content)
        router.add_post("/v1/batches", self._create)
        router.add_get("/v1/batches/{id}", self._retrieve)
        router.add_get("/v1/batches", self._list)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = form.get("file")
        if not isinstance(given, web.FileField) or form.get("purpose") != "batch":
            return error_response(OPENAI, 400, "expected a file with purpose 'batch'")
        content = given.file.read()
        name = self._keep(content)
        about = {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": given.filename}
        return web.json_response(about | {"purpose": "batch", "status": "processed"})

    async def _content(self, request: web.Request) -> web.Response:
        content = self._files.get(request.match_info["id"])
        return error_response(OPENAI, 404, "no such file") if content is None else web.Response(body=content)

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked.get("endpoint") != "/v1/chat/completions" or asked.get("input_file_id") not in self._files:
            return error_response(OPENAI, 400, "expected an uploaded file of chat completions")
        batch = _Batch(
            id=f"batch_{len(self._batches)}",
            file=asked["input_file_id"],
            over_at=time.monotonic() + self._behaviour.seconds,
            metadata=asked.get("metadata") or {},
        )
        self._batches[batch.id] = batch
        return web.json_response(self._to_json(batch))

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"])
        return (
            error_response(OPENAI, 404, "no such batch") if batch is None else web.json_response(self._to_json(batch))
        )

    async def _list(self, request: web.Request) -> web.Response:
        newest_first = [self._to_json(batch) for batch in reversed(self._batches.values())]
        return web.json_response({"object": "list", "data": newest_first, "has_more": False})

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self._files)}"
        self._files[name] = content
        return name

    def _to_json(self, batch: _Batch) -> dict[str, Any]:
        over = time.monotonic() >= batch.over_at
        if over and not batch.outputs and self._behaviour.ends != "failed":
            batch.outputs = self._work(self._files[batch.file].decode().splitlines())
        about = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": batch.file,
            "completion_window": "24h",
            "created_at": 0,
            "status": self._behaviour.ends if over else "in_progress",
            "metadata": batch.metadata,
            "request_counts": {"total": self._files[batch.file].count(b"\n"), "completed": 0, "failed": 0},
        }
        if over and self._behaviour.ends == "failed":
            about["errors"] = {"object": "list", "data": [{"code": "bad", "message": "the file is not valid"}]}
        return about | batch.outputs

    def _work(self, lines: list[str]) -> dict[str, str]:
        rows = [self._row(index, json.loads(line)) for index, line in enumerate(lines)]
        written = {
            "output_file_id": [row for row in rows if row and row["response"]],
            "error_file_id": [row for row in rows if row and not row["response"]],
        }
        # Not in the order of the questions.
        return {
            name: self._keep("".join(json.dumps(row) + "\n" for row in reversed(found)).encode())
            for name, found in written.items()
            if found
        }

    def _row(self, index: int, asked: Any) -> dict[str, Any] | None:
        row = {"id": f"batch_req_{index}", "custom_id": asked["custom_id"], "response": None, "error": None}
        ends, shares = self._behaviour.ends, {str(fault): share for fault, share in self._behaviour.faults.items()}
        fault = draw(shares, self._seed, asked["custom_id"], 1)
        if fault == "missing":
            return None
        if ends != "completed" and index % 2:
            return row | {"error": {"code": f"batch_{ends}", "message": f"the batch {ends} before this was answered"}}
        if fault == "error":
            return row | {"error": {"code": "server_error", "message": "something broke"}}
        if fault == "foreign":
            row["custom_id"] = "unknown"
        try:
            return row | {"response": {"status_code": 200, "request_id": "r", "body": self._respond(asked["body"])}}
        except _UNREADABLE as error:
            body = OPENAI.error(400, f"not a request of this protocol: {error!r}", None)
            return row | {"response": {"status_code": 400, "request_id": "r", "body": body}}
