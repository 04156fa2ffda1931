"""Any server that speaks OpenAI's chat completions, through the openai SDK.

The reply is read by `openai_reply.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from dar_jax.chat import decisions
from dar_jax.chat.address import Address, key_for, same_host
from dar_jax.chat.failures import Blocked
from dar_jax.chat.keys import Credentials, HeaderVariables, Key, SecretFile, VariableName
from dar_jax.chat.openai_client import environment_values, open_client
from dar_jax.chat.openai_reply import blocked_answer, read_reply
from dar_jax.chat.sending import Sender
from dar_jax.chat.token_ids import TokenIds
from dar_jax.chat.wire import SCORE, Answer, Request
from dar_jax.settings.fields import STRICT, Free, Name

VENDOR_URL = "https://api.openai.com/v1"
# A bare `off` is False to YAML.
Closed = Annotated[
    Literal["json_schema", "structured_outputs", "off"],
    BeforeValidator(lambda given: "off" if given is False else given),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenAIWire:
    """Any server that speaks OpenAI's chat completions: OpenAI, vLLM, SGLang, llama.cpp, transformers serve.

    The key comes from the variable `api_key_env` or the file `api_key_file`; by default OPENAI_API_KEY for
    OpenAI's own address, and none for any other. A gateway's own headers come from variables, `headers_env: {api-key:
    AZURE_KEY}`, or from lines `name: value` of the file `headers_file`; the SDK's OPENAI_ORG_ID, OPENAI_PROJECT_ID and
    OPENAI_CUSTOM_HEADERS go to OpenAI's own address alone. `closed` is how the server is made to answer with one of the
    choices: OpenAI's `json_schema` (not sent with log-probabilities, which are those of a bare digit), vLLM's
    `structured_outputs` (sent always), or `off`. `decisions` is where typed decisions are asked for, below `base_url`:
    `auto` takes OpenAI's `decisions` at its own address and `systemone` (transformers serve, vLLM) at any other.
    `exact_digits` has a vLLM server give the log-probability of every choice, however unlikely, in place of the
    likeliest 20 tokens'. `extra_body` is added to every request as it is; it is written to the run folder, so put no
    secret into it.
    """

    name: Literal["openai"] = "openai"
    model: Name
    base_url: Address = VENDOR_URL
    api_key_env: VariableName = None
    api_key_file: SecretFile = None
    headers_env: HeaderVariables = Field(default_factory=dict)
    headers_file: SecretFile = None
    closed: Closed = "json_schema"
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    reasoning_effort: Name | None = None
    decisions: Literal["auto", "decisions", "systemone"] = "auto"
    exact_digits: bool = False
    extra_body: dict[str, Free] = Field(default_factory=dict)

    @property
    def address(self) -> str:
        """See `wire.WireSettings`."""
        return f"at {self.base_url}"

    def identity(self) -> Mapping[str, object]:
        """See `wire.WireSettings`."""
        known: dict[str, object] = {
            "wire": self.name,
            "model": self.model,
            "endpoint": self.base_url,
            "closed": self.closed,
            "reasoning_effort": self.reasoning_effort,
            "extra_body": self.extra_body,
        }
        # Named where they were chosen: ledgers written before there was a choice stay good.
        chosen = {"decisions": self.decisions, "exact_digits": self.exact_digits}
        return known | {name: value for name, value in chosen.items() if value not in ("auto", False)}

    @property
    def decides_at(self) -> Literal["decisions", "systemone"]:
        """Where typed decisions are asked for."""
        if self.decisions != "auto":
            return self.decisions
        return "decisions" if self.base_url == VENDOR_URL else "systemone"

    def connect(self, connections: int) -> "OpenAIChat":
        """Open the wire. Raises SettingError where the key or a header is missing."""
        return OpenAIChat(self, self.credentials())

    def check(self) -> None:
        """See `wire.WireSettings`."""
        self.credentials()

    def credentials(self) -> Credentials:
        """Find the key and the headers. Raises SettingError where one is missing."""
        beside = environment_values() if same_host(self.base_url, VENDOR_URL) else []
        return Credentials(self._key(), self.headers_env, self.headers_file, beside)

    def _key(self) -> Key:
        return key_for(self.base_url, VENDOR_URL, "OPENAI_API_KEY", self.api_key_file, self.api_key_env)


class OpenAIChat:
    """The wire, open. One attempt a call."""

    def __init__(self, settings: OpenAIWire, credentials: Credentials) -> None:
        self._settings = settings
        self._client = open_client(settings.base_url, VENDOR_URL, credentials)
        headers = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._sender = Sender(settings.base_url, headers, credentials)
        self.ramp, self._ids = self._sender.ramp, TokenIds(self._tokenize)

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """See `wire.Chat`."""
        try:
            return await (self._decide if request.scores else self._complete)(request, timeout_s)
        except Blocked as stopped:
            return blocked_answer(stopped)

    async def _complete(self, request: Request, timeout_s: float) -> Answer:
        exact = self._settings.exact_digits and request.top_logprobs and request.choices
        ids = await self._ids.of(request.choices, timeout_s) if exact else []
        body = chat_body(self._settings, request)
        body |= {"top_logprobs": len(ids), "logprob_token_ids": ids} if ids else {}
        return read_reply(await self._sender.post("/chat/completions", body, timeout_s))

    async def close(self) -> None:
        """See `wire.Chat`."""
        await self._sender.close()
        await self._client.close()

    async def _decide(self, request: Request, timeout_s: float) -> Answer:
        asked: dict[str, Any] = {"model": self._settings.model, **self._settings.extra_body}
        if self._settings.decides_at == "decisions":
            asked |= {"input": decisions.asked_about(request), "questions": decisions.listed(request.scores)}
            return decisions.read_listed(await self._sender.post("/decisions", asked, timeout_s), request)
        asked |= {"state": decisions.asked_about(request), "questions": decisions.mapped(request.scores)}
        return decisions.read_mapped(await self._sender.post("/systemone", asked, timeout_s), request)

    async def _tokenize(self, text: str, timeout_s: float) -> str:
        # Beside the OpenAI protocol, not below it.
        url = f"{self._settings.base_url.removesuffix('/v1')}/tokenize"
        asked = {"model": self._settings.model, "prompt": text, "add_special_tokens": False}
        return await self._sender.post(url, asked, timeout_s)


def chat_body(settings: OpenAIWire, request: Request) -> dict[str, Any]:
    """Write a request as the body of a chat completion."""
    extra = dict(settings.extra_body)
    arguments: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        settings.token_limit: request.max_tokens,
        "temperature": request.temperature,
        "reasoning_effort": settings.reasoning_effort,
        "seed": request.seed,
        "n": request.n if request.n > 1 else None,
        "logprobs": True if request.top_logprobs else None,
        "top_logprobs": request.top_logprobs or None,
    }
    if request.choices and settings.closed == "structured_outputs":
        extra["structured_outputs"] = {"choice": list(request.choices)}
    if request.choices and settings.closed == "json_schema" and not request.top_logprobs:
        arguments["response_format"] = _response_format(request.choices)
    given = {name: value for name, value in arguments.items() if value is not None}
    return given | extra


def _response_format(choices: tuple[str, ...]) -> dict[str, Any]:
    # An enum, not bounds: some grammars ignore `minimum` and `maximum`.
    schema = {
        "type": "object",
        "properties": {SCORE: {"type": "string", "enum": list(choices)}},
        "required": [SCORE],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": schema}}
