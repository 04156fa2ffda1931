"""Gemini through google-genai, always on httpx2."""

import json
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from dar_jax.chat import decisions
from dar_jax.chat.connections import out_of_files, paced
from dar_jax.chat.failures import (
    ChatError,
    ConnectionLost,
    NotAnAnswer,
    NotConnected,
    OutOfFiles,
    Rejected,
    TooSlow,
    Unauthorized,
    shorten,
    status_error,
)
from dar_jax.chat.gemini import GeminiWire, generation_config, read_reply, safety_settings, split_system
from dar_jax.chat.keys import Key
from dar_jax.chat.ramp import KEPT_S, Ramp
from dar_jax.chat.wire import Answer, Request

if TYPE_CHECKING:
    from google import genai


class GeminiChat:
    """An open wire. One attempt a call: SDK retries, the default for decisions, are off."""

    def __init__(self, settings: GeminiWire, key: Key, connections: int) -> None:
        import httpx2

        self._settings, self._key, self.ramp = settings, key, Ramp()
        # The SDK would otherwise use aiohttp if installed, with its own retries and exceptions, and httpx2's default
        # pool of 100 connections is too small for a large batch.
        limits = httpx2.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEPT_S
        )
        self._http = httpx2.AsyncClient(limits=limits, event_hooks={"request": [paced(self.ramp)]})
        self._client = self._open_client()

    def _open_client(self) -> "genai.Client":
        from google import genai
        from google.genai import types

        settings = self._settings
        options = types.HttpOptions(
            base_url=settings.base_url,
            api_version=settings.api_version,
            httpx_async_client=self._http,
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        # Explicit, so that no environment variable redirects the client to another service.
        return genai.Client(vertexai=False, api_key=self._key.reveal(), http_options=options)

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once. Raises ChatError."""
        version = self._key.version
        try:
            return await self._ask(request, timeout_s)
        except Unauthorized:
            if not self._key.renew(version):
                raise
            self._client = self._open_client()
            return await self._ask(request, timeout_s)

    async def _ask(self, request: Request, timeout_s: float) -> Answer:
        if request.scores:
            return decisions.read_mapped(self._key.redact(await self._body(self._decide(request, timeout_s))), request)
        return read_reply(await self._body(self._generate(request, timeout_s)), self._key)

    async def _body(self, call: Awaitable[str]) -> str:
        """Return the body of an SDK call. Raises ChatError."""
        import httpx2

        try:
            return await call
        except (httpx2.RequestError, OSError) as error:
            raise self._connection_error(error) from None
        except Exception as error:
            raise self._error_of(error) from None

    async def _generate(self, request: Request, timeout_s: float) -> str:
        from google.genai import types

        system, user = split_system(request)
        config = types.GenerateContentConfig.model_validate(
            generation_config(request)
            | {
                "system_instruction": system,
                "seed": request.seed,
                "safety_settings": safety_settings(self._settings.safety),
                "thinking_config": self._thinking(),
                # The unparsed body: the SDK's objects drop unknown fields.
                "should_return_http_response": True,
                "http_options": {"timeout": max(1, round(timeout_s * 1000))},
            }
        )
        reply = await self._client.aio.models.generate_content(model=self._settings.model, contents=user, config=config)
        return (reply.sdk_http_response.body if reply.sdk_http_response else None) or ""

    async def _decide(self, request: Request, timeout_s: float) -> str:
        create: Any = self._client.aio.decisions.with_raw_response.create
        reply = await create(
            model=self._settings.model,
            input=decisions.data_of(request),
            questions=decisions.mapped(request.scores),
            timeout=timeout_s,
        )
        return str(await reply.text())

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aio.aclose()
        self._client.close()
        await self._http.aclose()

    def _thinking(self) -> dict[str, int] | None:
        budget = self._settings.thinking_budget
        return None if budget is None else {"thinking_budget": budget}

    def _connection_error(self, error: Exception) -> ChatError:
        import httpx2

        if out_of_files(error):
            return OutOfFiles()
        if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError):
            return NotConnected(f"the connection failed: {self._shown(error)}")
        if isinstance(error, httpx2.TimeoutException):
            return TooSlow("the server did not answer in time")
        return ConnectionLost(f"the connection failed: {self._shown(error)}")

    def _error_of(self, error: Exception) -> ChatError:
        """Return the ChatError of an SDK exception; those of decisions are private and known by their attributes."""
        import httpx2

        if isinstance(below := error.__cause__, (httpx2.RequestError, OSError)):
            return self._connection_error(below)
        code = getattr(error, "code", None) or getattr(error, "status_code", None) or 0
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        if isinstance(code, int) and 400 <= code < 600:
            message = self._key.redact(str(getattr(error, "message", None) or error))
            body = getattr(error, "details", None) or getattr(error, "body", None)
            details = body if isinstance(body, str) else json.dumps(body, default=str)
            return status_error(code, message, headers, self._key.redact(details))
        if code == 200:
            return NotAnAnswer(f"HTTP 200, but no Gemini answer: {self._shown(error)}")
        # An unknown error costs one verdict, not the run.
        return Rejected(f"google-genai failed: {self._shown(error)}")

    def _shown(self, error: Exception) -> str:
        return shorten(self._key.redact(f"{type(error).__name__} {error}"))
