"""A scripted model behind an HTTP server on this machine, with faults on demand.

    POST /v1/chat/completions                      OpenAI's chat completions
    POST /v1/decisions, /v1/systemone              typed decisions of OpenAI and of open servers
    POST /v1beta/models/MODEL:generateContent      Gemini's REST, also under /v1
    POST /v1beta/decisions                         Gemini's typed decisions
    /v1/files, /v1/batches                         OpenAI's batches, see batch_server.py
    POST /tokenize                                 vLLM's
    GET  /v1/models, /health, /counts

For tests (`with serve(ServerSettings(port=0)) as server: server.url`), for runs over HTTP, and for runs whose judge
fails (`dar-jax serve 'faults={rate_limit: 0.1}'`).
"""

import asyncio
import functools
import hashlib
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from dar_jax.chat.background import BackgroundLoop
from dar_jax.chat.failures import Rejected
from dar_jax.chat.scripted.batch_server import BatchBehaviour, BatchDesk
from dar_jax.chat.scripted.decision_dialects import DECISIONS, GEMINI_DECISIONS, SYSTEMONE
from dar_jax.chat.scripted.dialects import FILTERED, GEMINI, OPENAI, Dialect, tokenized
from dar_jax.chat.scripted.faults import ANSWER_FAULTS, FAULTS, LOST_FAULTS, draw, spoil
from dar_jax.chat.scripted.misbehaviour import TokenBucket, deliver, error_response, failure, shown_key
from dar_jax.chat.scripted.odd_replies import as_events, spoil_reply
from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.chat.scripted.scorers import SCORERS
from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, CountOrZero, Name, Number, Positive, SecondsOrZero, Share
from dar_jax.settings.refusals import setting_error
from dar_jax.settings.yaml_settings import merged

_PATHS = {
    "/v1/chat/completions": OPENAI,
    "/v1/decisions": DECISIONS,
    "/v1/systemone": SYSTEMONE,
    "/v1/models/{model}:generateContent": GEMINI,
    "/v1beta/models/{model}:generateContent": GEMINI,
    "/v1beta/decisions": GEMINI_DECISIONS,
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ServerSettings:
    """What to serve, and with which faults. `port` 0 is any free port. `faults` maps each kind (see `faults.py`) to its
    share of the calls, on the first `fault_attempts` attempts at a content (null: on all); a model named like a fault
    always has it. Requests beyond `requests_per_minute` get a 429 (null: no limit). `batch` is the behaviour of
    batches. Times are seconds.
    """

    host: Name = "127.0.0.1"
    port: CountOrZero = Field(default=8800, le=65535)
    scorer: Name = "overlap"
    faults: dict[str, Share] = Field(default_factory=dict)
    fault_attempts: CountOrZero | None = None
    seed: CountOrZero = 0
    latency_s: SecondsOrZero = 0.0
    retry_after_s: SecondsOrZero = 1.0
    hang_s: SecondsOrZero = 3600.0
    drip_s: SecondsOrZero = 60.0
    clock_ahead_s: Number = 0.0
    requests_per_minute: Positive | None = None
    batch: BatchBehaviour = Field(default_factory=BatchBehaviour)

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(f"got {scorer!r}, expected one of {', '.join(sorted(SCORERS))}")
        return scorer

    @field_validator("faults")
    @classmethod
    def _shares(cls, faults: dict[str, float]) -> dict[str, float]:
        if unknown := set(faults) - set(FAULTS):
            raise ValueError(f"got {', '.join(sorted(unknown))}, expected any of {', '.join(FAULTS)}")
        if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
            raise ValueError(f"got {faults!r}, expected shares from 0 to 1 with a sum of at most 1")
        return faults


class Server:
    """A running server. Its counters are by content, a hash of the messages.

    `asked` counts the requests, `answered` the answers sent completely, `lost` the answers generated but not delivered
    (a real server bills both); `rate_limited` is the number of requests beyond the rate. `bodies` has the JSON of the
    last request of each content, `keys` the keys received.
    """

    def __init__(self, settings: ServerSettings, model: ScriptedModel) -> None:
        self._settings, self._model = settings, model
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.rate_limited = 0
        self.batches = BatchDesk(settings.batch, settings.seed, self._respond)
        self._bucket = TokenBucket(settings.requests_per_minute) if settings.requests_per_minute else None
        self.bodies: dict[str, Any] = {}
        self.keys: set[str] = set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def openai_url(self) -> str:
        """The base_url of the openai wire."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Listen for requests. Raises SettingError if the address is in use."""
        self._runner = web.AppRunner(self._routes(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._settings.host}:{self._settings.port}"
            raise SettingError(f"port: cannot listen on {where} ({error.strerror}); choose another port") from None
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _routes(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        for path, dialect in _PATHS.items():
            app.router.add_post(path, functools.partial(self._reply, dialect=dialect))
        self.batches.add_routes(app.router)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/counts", self._counts)
        return app

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(tokenized(await request.json()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return error_response(OPENAI, 400, f"not a request of this protocol: {error!r}")

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self._model.name, "object": "model", "created": 0, "owned_by": "dar-jax"}
        return web.json_response({"object": "list", "data": [model]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _counts(self, request: web.Request) -> web.Response:
        names = ("asked", "answered", "lost")
        return web.json_response({name: sum(getattr(self, name).values()) for name in names})

    async def _reply(self, request: web.Request, dialect: Dialect) -> web.StreamResponse:
        try:
            body = await request.json()
            asked = dialect.read(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return error_response(dialect, 400, f"not a request of this protocol: {error!r}")
        content = self._record(body, asked)
        self.keys.add(shown_key(request).removeprefix("Bearer "))
        model = body.get("model") or request.match_info.get("model")
        fault, settings = self._fault(content, model), self._settings
        if self._bucket and not self._bucket.take():
            self.rate_limited += 1
            fault = "rate_limit"
        await asyncio.sleep(settings.hang_s if fault == "hang" else settings.latency_s)
        if (early := failure(request, dialect, fault, settings.retry_after_s, settings.clock_ahead_s)) is not None:
            return early
        try:
            answer = self._model.answer(asked)
        except Rejected as error:
            return error_response(dialect, 400, str(error))
        if fault == "filter_400" and dialect.error is OPENAI.error:
            self.answered[content] += 1  # filtered requests are billed
            return error_response(dialect, 400, FILTERED)
        text = json.dumps(_reply_json(dialect, answer, fault, body))
        return await self._send(request, content, as_events(text) if fault == "events" else text, fault)

    def _record(self, body: Any, asked: Request) -> str:
        content = content_key([*(m.content for m in asked.messages), *map(repr, asked.scores)])
        self.asked[content] += 1
        self.bodies[content] = body
        return content

    def _respond(self, body: Any) -> dict[str, Any]:
        """Return the response to a row of a batch. Raises what `Dialect.read` raises, or Rejected."""
        asked = OPENAI.read(body)
        content = self._record(body, asked)
        answer, fault = self._model.answer(asked), self._fault(content, body.get("model"))
        self.answered[content] += 1
        return _reply_json(OPENAI, answer, fault, body)

    def _fault(self, content: str, model: object) -> str:
        settings, attempt = self._settings, self.asked[content]
        if settings.fault_attempts is not None and attempt > settings.fault_attempts:
            return ""
        if model in FAULTS:
            return str(model)
        return draw(settings.faults, settings.seed, content, attempt) or ""

    async def _send(self, request: web.Request, content: str, text: str, fault: str) -> web.StreamResponse:
        # Counted before it is sent, since a client may check the counts as soon as it has the answer.
        counter = self.lost if fault in LOST_FAULTS else self.answered
        counter[content] += 1
        try:
            return await deliver(request, text.encode(), fault, self._settings.drip_s)
        except BaseException:
            # The client disconnected before it had the whole answer.
            counter -= Counter([content])
            self.lost[content] += 1
            raise


@contextmanager
def serve(settings: ServerSettings | None = None, model: ScriptedModel | None = None) -> Iterator[Server]:
    """Run a server in a thread of this process until the block ends."""
    settings = settings or ServerSettings(port=0)
    server = Server(settings, model or ScriptedModel.named(settings.scorer))
    loop = BackgroundLoop("scripted-server")
    try:
        loop.start(server.start()).result()
        yield server
    finally:
        loop.close(server.stop())


def main_loop(settings: ServerSettings) -> None:
    """Serve until SIGTERM. Raises SettingError if the address is in use."""
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with serve(settings) as server:
            print(f"serving {settings.scorer}: OpenAI at {server.openai_url}, Gemini at {server.url}", flush=True)
            stop.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def read_settings(arguments: Sequence[str]) -> ServerSettings:
    """Build the settings from `key=value` arguments. Raises SettingError with one line for each mistake."""
    for argument in arguments:
        if "=" not in argument:
            raise SettingError(f"got {argument!r}, expected key=value, such as port=8800")
    given = merged("", arguments, where="serve", of=ServerSettings)
    try:
        return TypeAdapter(ServerSettings).validate_python(given)
    except ValidationError as error:
        raise setting_error(error.errors(), given, ServerSettings, "serve") from None


def _reply_json(dialect: Dialect, answer: Answer, fault: str, body: Any) -> dict[str, Any]:
    if fault in ANSWER_FAULTS:
        answer = spoil(answer, fault)
    elif fault == "filter_400":
        answer = spoil(answer, "prompt_block")
    return spoil_reply(dialect.write(answer, body), fault)


def content_key(texts: Sequence[str]) -> str:
    """Return a hash of the texts of a request, the key of the counters."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
