"""Replies as hostile, broken and merely odd servers give them: no crash, no reward made up, nothing bought twice."""

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from dar_jax.chat.scripted.faults import FAULTS
from dar_jax.chat.scripted.server import ServerSettings, serve
from reliability_trials.commands import Commands
from reliability_trials.outcomes import Outcome
from reliability_trials.workshop import Workshop, plain_ending

_ROWS = 4
_ATTEMPTS = 2
_DEEP = 100_000


def _completion(**changes: Any) -> dict[str, Any]:
    top = [{"token": "7", "logprob": -0.1, "bytes": [55]}, {"token": "8", "logprob": -2.4, "bytes": [56]}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "7", "refusal": None},
        "finish_reason": "stop",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}], "refusal": None},
    }
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "odd", "choices": [choice]}
    body["usage"] = {"prompt_tokens": 90, "completion_tokens": 1, "total_tokens": 91}
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("__"))
        at: Any = body
        for part in parents:
            at = at[part]
        at[last] = value
    return body


_TOKEN = "choices__0__logprobs__content"
_LISTED = {"token": "1", "logprob": -0.01, "bytes": [49]}
_USAGES: tuple[Any, ...] = (
    *(None, {}, [], "many", 7, {"total_tokens": 91}, {"input_tokens": 90, "output_tokens": 1}),
    *({"prompt_tokens": value, "completion_tokens": 1} for value in (None, -(10**12), 10**30, "90", 1.5, True)),
    {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 480}},
    {"prompt_tokens": 500, "completion_tokens": 1, "total_tokens": 1301},
    {"prompt_tokens": 500, "completion_tokens": 1, "prompt_tokens_details": None},
)
_CONTENTS: tuple[Any, ...] = (
    *(None, 7, [], {}, "", "\ud800", "\x1b]0;x\x07", "7" * 1_000_000),
    [{"type": "text", "text": None}],
)
_CHOICES: tuple[Any, ...] = (None, {}, [], [None], 7, [{}] * 1000)
_NAMES: tuple[Any, ...] = (None, 7, [], "", "sleepy", "m" * 100_000)
_LOGPROBS: dict[str, Any] = {
    "null": None,
    "empty": [],
    "junk": [7],
    "of thinking": [{**_LISTED, "top_logprobs": [_LISTED]}, {"token": "7", "logprob": -0.1, "top_logprobs": []}],
    "of another token": [{**_LISTED, "top_logprobs": [_LISTED]}],
    "above one": [
        {"token": "7", "logprob": 0.5, "top_logprobs": [{"token": str(i), "logprob": 0.5} for i in range(1, 9)]}
    ],
    "text": [{"token": "7", "logprob": "high", "top_logprobs": []}],
    "bytes": [{"token": "7", "logprob": -0.1, "bytes": [999], "top_logprobs": []}],
}
# Completions: each is an answer that was paid for, whatever can be read of it.
ANSWERS: dict[str, dict[str, Any]] = {
    **{f"usage {json.dumps(usage)[:60]}": _completion(usage=usage) for usage in _USAGES},
    **{f"content {json.dumps(text)[:40]}": _completion(choices__0__message__content=text) for text in _CONTENTS},
    **{f"choices {str(choices)[:40]}": _completion(choices=choices) for choices in _CHOICES},
    **{f"finish {str(name)[:40]}": _completion(choices__0__finish_reason=name) for name in _NAMES},
    **{f"model {str(name)[:40]}": _completion(model=name) for name in _NAMES},
    **{f"log-probs {name}": _completion(**{_TOKEN: content}) for name, content in _LOGPROBS.items()},
}
# Bodies that are no completion: worth another attempt, never more than there are.
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "not utf-8": b"\xff\xfe{}",
    "open braces": b"{" * _DEEP,
    "deep": b'{"choices":' * _DEEP + b"1" + b"}" * _DEEP,
    "digits": b'{"choices": [], "usage": {"prompt_tokens": ' + b"1" * 10_000 + b"}}",
    "spaces": b" " * 5_000_000,
    "a page": b"<html><title>Sign in</title></html>",
    "an error": b'{"error": {"message": "no", "code": null}}',
    "NaN": b'{"choices": NaN}',
    "stream": b'data: {"choices": [{"delta": {"content": "7"}}]}\n\ndata: [DONE]\n\n',
}


class _Server:
    """Answers every chat completion with one body, on a loopback port of its own thread."""

    def __init__(self) -> None:
        self.body, self.asked, self.url = b"", 0, ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "_Server":
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        return web.Response(body=self.body, content_type="application/json")


def replies(workshop: Workshop, every: int = 1) -> Iterator[Outcome]:
    """Judge a few rows by each `every`th kind of server; the scripted server's own faults come last."""
    rows = workshop.folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "say", "completion": f"text {i}"}) + "\n" for i in range(_ROWS)))
    with Commands() as commands:
        with _Server() as server:
            for mode in ("logprobs", "single"):
                for name, completion in list(ANSWERS.items())[::every]:
                    server.body, server.asked = json.dumps(completion).encode(), 0
                    wrong = _judged(commands, workshop, server.url, rows, mode)
                    if not wrong and server.asked > _ROWS:
                        wrong = f"{_ROWS} rows were bought {server.asked} times"
                    yield Outcome(kind="hostile replies", case=f"{mode}: {name}", held=not wrong, detail=wrong)
                for name, body in list(BODIES.items())[::every]:
                    server.body, server.asked = body, 0
                    wrong = _judged(commands, workshop, server.url, rows, mode)
                    if not wrong and server.asked > _ROWS * _ATTEMPTS:
                        wrong = f"{server.asked} requests for {_ROWS} rows at {_ATTEMPTS} attempts"
                    yield Outcome(kind="hostile replies", case=f"{mode}: {name}", held=not wrong, detail=wrong)
        for fault in FAULTS[::every]:
            with serve(ServerSettings(port=0, faults={fault: 1.0}, hang_s=5, drip_s=1, retry_after_s=0)) as scripted:
                wrong = _judged(commands, workshop, scripted.openai_url, rows, "logprobs")
                yield Outcome(kind="hostile replies", case=f"fault {fault}", held=not wrong, detail=wrong)


def _judged(commands: Commands, workshop: Workshop, url: str, rows: Path, mode: str) -> str:
    """Judge the rows in a new ledger; return what is wrong with what came of it."""
    output, ledger = workshop.folder / "judged.jsonl", workshop.folder / "judged.sqlite"
    for file in workshop.folder.glob("judged.*"):
        file.unlink()
    status, said = commands.run(
        *("judge", str(workshop.config), "--input", str(rows), "--output", str(output), "--ledger", str(ledger)),
        *(f"judge.base_url={url}", f"judge.mode={mode}", f"judge.attempts={_ATTEMPTS}", "judge.attempt_timeout_s=2"),
        *("judge.deadline_s=10", "judge.max_failure_share=1"),
    )
    if wrong := plain_ending(status, said):
        return wrong
    if output.exists():
        for row in map(json.loads, output.read_text().splitlines()):
            if row["reward"] is not None and not (row["status"] == "ok" and 1 <= row["reward"] <= 10):
                return f"a reward of {row['reward']} at verdict {row['status']}"
    with contextlib.closing(sqlite3.connect(ledger)) as opened:
        tokens = opened.execute("select input_tokens, cached_tokens, output_tokens from answers").fetchall()
    if any(count is not None and not 0 <= count < 2**31 for counts in tokens for count in counts):
        return f"token counts {tokens}"
    return ""
