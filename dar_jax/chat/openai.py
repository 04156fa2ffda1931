"""Any server with OpenAI's chat completions API, through the openai SDK.

`openai_reply.py` parses the replies. Typed decisions are an optional part: `decisions.py`.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from dar_jax.chat import decisions
from dar_jax.chat.endpoint import Address, HeaderVariables, SecretFile, VariableName, key_for, same_host
from dar_jax.chat.failures import Blocked, NotAnAnswer, Unsupported, shorten
from dar_jax.chat.keys import Credentials
from dar_jax.chat.openai_reply import blocked_answer, read_reply
from dar_jax.chat.sending import Sender
from dar_jax.chat.wire import SCORE, Answer, Request
from dar_jax.settings.fields import STRICT, FiniteJson, FreeOnResume, Name

if TYPE_CHECKING:
    from openai import AsyncOpenAI

VENDOR_URL = "https://api.openai.com/v1"
# YAML reads a bare `off` as False.
Closed = Annotated[
    Literal["json_schema", "structured_outputs", "off"],
    BeforeValidator(lambda given: "off" if given is False else given),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenAIWire:
    """Any server with OpenAI's chat completions API: OpenAI, vLLM, SGLang, llama.cpp, transformers serve.

    The key comes from the variable `api_key_env` or the file `api_key_file`; by default OPENAI_API_KEY for
    OpenAI's own address, and none for any other. A gateway's own headers come from variables, `headers_env: {api-key:
    AZURE_KEY}`, or from lines `name: value` of the file `headers_file`; the SDK's OPENAI_ORG_ID, OPENAI_PROJECT_ID and
    OPENAI_CUSTOM_HEADERS are sent to OpenAI's own address only. `closed` restricts answers to the choices: OpenAI's
    `json_schema` (not sent with log-probabilities, which are those of a bare digit), vLLM's `structured_outputs` (sent
    always), or `off`. `decisions` is the path of typed decisions below `base_url`: `auto` is OpenAI's `decisions` at
    its own address and `systemone` (transformers serve, vLLM) at any other. With `exact_digits` a vLLM server returns
    the log-probability of every choice, however unlikely, instead of the likeliest 20 tokens'. `extra_body` is added to
    every request unchanged; it is written to the run folder, so it must not contain a secret.
    """

    name: Literal["openai"] = "openai"
    model: Name
    base_url: FreeOnResume[Address] = VENDOR_URL
    api_key_env: FreeOnResume[VariableName] = None
    api_key_file: FreeOnResume[SecretFile] = None
    headers_env: HeaderVariables = Field(default_factory=dict)
    headers_file: SecretFile = None
    closed: Closed = "json_schema"
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    reasoning_effort: Name | None = None
    decisions: Literal["auto", "decisions", "systemone"] = "auto"
    exact_digits: bool = False
    extra_body: dict[str, FiniteJson] = Field(default_factory=dict)

    @property
    def address(self) -> str:
        """The base URL."""
        return f"at {self.base_url}"

    def identity(self) -> Mapping[str, object]:
        """Return the settings that determine the answers."""
        always: dict[str, object] = {
            "wire": self.name,
            "model": self.model,
            "endpoint": self.base_url,
            "closed": self.closed,
            "reasoning_effort": self.reasoning_effort,
            "extra_body": self.extra_body,
        }
        # Defaults are left out, so that ledgers from before these settings existed stay valid.
        optional = {"decisions": self.decisions, "exact_digits": self.exact_digits}
        return always | {name: value for name, value in optional.items() if value not in ("auto", False)}

    @property
    def decisions_path(self) -> Literal["decisions", "systemone"]:
        """The path of typed decisions."""
        if self.decisions != "auto":
            return self.decisions
        return "decisions" if self.base_url == VENDOR_URL else "systemone"

    def connect(self, connections: int) -> "OpenAIChat":
        """Open the wire. Raises SettingError if the key or a header is missing."""
        return OpenAIChat(self, self.credentials())

    def check(self) -> None:
        """Raise SettingError if the key or a header is missing."""
        self.credentials()

    def credentials(self) -> Credentials:
        """Read the key and the headers. Raises SettingError if one is missing."""
        key = key_for(self.base_url, VENDOR_URL, "OPENAI_API_KEY", self.api_key_file, self.api_key_env)
        sdk_values = _environment_headers() if same_host(self.base_url, VENDOR_URL) else []
        return Credentials(key, self.headers_env, self.headers_file, sdk_values)


class OpenAIChat:
    """The open wire; each call is one attempt."""

    def __init__(self, settings: OpenAIWire, credentials: Credentials) -> None:
        self._settings = settings
        self._client = open_client(settings.base_url, credentials)
        headers = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._sender = Sender(settings.base_url, headers, credentials)
        self.ramp = self._sender.ramp
        self._token_ids, self._tokenizing = dict[str, int](), asyncio.Lock()

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once. Raises ChatError."""
        try:
            return await (self._decide if request.scores else self._complete)(request, timeout_s)
        except Blocked as error:
            return blocked_answer(error)

    async def close(self) -> None:
        """Close every connection."""
        await self._sender.close()
        await self._client.close()

    async def _complete(self, request: Request, timeout_s: float) -> Answer:
        body = chat_body(self._settings, request)
        if self._settings.exact_digits and request.top_logprobs and request.choices:
            ids = await self._ids_of(request.choices, timeout_s)
            body |= {"top_logprobs": len(ids), "logprob_token_ids": ids}
        return read_reply(await self._sender.post("/chat/completions", body, timeout_s))

    async def _decide(self, request: Request, timeout_s: float) -> Answer:
        path = self._settings.decisions_path
        body = {"model": self._settings.model, **self._settings.extra_body, **decisions.body_of(path, request)}
        return decisions.read(path, await self._sender.post(f"/{path}", body, timeout_s), request)

    async def _ids_of(self, choices: tuple[str, ...], timeout_s: float) -> list[int]:
        """Return the token ids of the choices, each requested once. Raises ChatError; Unsupported if they cannot be
        told apart by one token.
        """
        async with self._tokenizing:
            for choice in choices:
                if choice not in self._token_ids:
                    self._token_ids[choice] = _single_token(choice, await self._tokenize(choice, timeout_s))
        ids = [self._token_ids[choice] for choice in choices]
        if len(set(ids)) != len(ids):
            raise Unsupported(f"the server's tokenizer writes two of {', '.join(choices)} alike; {_NO_EXACT_DIGITS}")
        return ids

    async def _tokenize(self, text: str, timeout_s: float) -> str:
        # vLLM serves this path next to /v1, not below it.
        url = f"{self._settings.base_url.removesuffix('/v1')}/tokenize"
        body = {"model": self._settings.model, "prompt": text, "add_special_tokens": False}
        return await self._sender.post(url, body, timeout_s)


def chat_body(settings: OpenAIWire, request: Request) -> dict[str, Any]:
    """Return a request as the body of a chat completion."""
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
    return {name: value for name, value in arguments.items() if value is not None} | extra


def _response_format(choices: tuple[str, ...]) -> dict[str, Any]:
    # An enum, not bounds: some grammars ignore `minimum` and `maximum`.
    schema = {
        "type": "object",
        "properties": {SCORE: {"type": "string", "enum": list(choices)}},
        "required": [SCORE],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "grade", "strict": True, "schema": schema}}


def open_client(base_url: str, credentials: Credentials) -> "AsyncOpenAI":
    """Open the SDK's client without retries.

    The SDK adds OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS (which often contains a gateway's key) of
    the environment to every request; here they are sent to OpenAI's own address only.
    """
    from openai import AsyncOpenAI, DefaultAioHttpClient

    client = AsyncOpenAI(
        base_url=base_url,
        api_key=credentials.key.reveal(),
        max_retries=0,
        default_headers=credentials.headers(),
        http_client=DefaultAioHttpClient(),
    )
    if not same_host(base_url, VENDOR_URL):
        client.organization = client.project = None
        client._custom_headers = credentials.headers()
    return client


def _environment_headers() -> list[str]:
    """Return the values of the headers that the SDK reads from OPENAI_CUSTOM_HEADERS."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    return [line.partition(":")[2].strip() for line in lines]


@pydantic.dataclasses.dataclass(frozen=True)
class _Tokenized:
    tokens: list[int]


_TOKENIZED = TypeAdapter(_Tokenized)
_NO_EXACT_DIGITS = "leave judge.exact_digits out"


def _single_token(text: str, body: str) -> int:
    try:
        tokens = _TOKENIZED.validate_json(body).tokens
    except pydantic.ValidationError:
        raise NotAnAnswer(f"HTTP 200, but no tokens: {shorten(body)!r}") from None
    if len(tokens) != 1:
        raise Unsupported(f"the server's tokenizer writes {text!r} as {len(tokens)} tokens; {_NO_EXACT_DIGITS}")
    return tokens[0]
