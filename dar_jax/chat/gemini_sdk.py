"""Gemini through google-genai, on one HTTP backend whatever else is installed."""

import json

from dar_jax.chat.errors import ChatError, ConnectionLost, Rejected, TooSlow
from dar_jax.chat.gemini import GeminiWire, generation_config, read_reply, safety_settings, split_system
from dar_jax.chat.keys import Key
from dar_jax.chat.status import short, status_error
from dar_jax.chat.wire import Answer, Request


class GeminiChat:
    """The wire, open. One attempt a call: without `retry_options` the SDK does not retry on httpx2."""

    def __init__(self, settings: GeminiWire, key: Key, connections: int) -> None:
        import httpx2
        from google import genai
        from google.genai import types

        self._settings, self._key = settings, key
        # A client of our own: the SDK would take aiohttp wherever it is installed, with retries and exceptions
        # of its own, and httpx2's default pool of 100 is too small for a large batch.
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx2.AsyncClient(limits=limits)
        options = types.HttpOptions(
            base_url=settings.base_url, api_version=settings.api_version, httpx_async_client=self._http
        )
        # Said here, so that no environment variable turns the client to another service.
        self._client = genai.Client(vertexai=False, api_key=key.reveal(), http_options=options)

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """See `wire.Chat`."""
        import httpx2
        from google.genai import errors, types

        system, user = split_system(request)
        config = types.GenerateContentConfig.model_validate(
            generation_config(request)
            | {
                "system_instruction": system,
                "seed": request.seed,
                "safety_settings": safety_settings(self._settings.safety),
                "thinking_config": self._thinking(),
                # The body as it came: the SDK's objects drop what they do not know.
                "should_return_http_response": True,
                "http_options": {"timeout": max(1, round(timeout_s * 1000))},
            }
        )
        try:
            reply = await self._client.aio.models.generate_content(
                model=self._settings.model, contents=user, config=config
            )
        except errors.APIError as error:
            raise self._status_error(error) from None
        except httpx2.TimeoutException:
            raise TooSlow("the server did not answer in time") from None
        except (httpx2.RequestError, OSError) as error:
            raise ConnectionLost(f"the connection failed: {self._shown(error)}") from None
        except Exception as error:
            # Whatever else an SDK raises costs one verdict, not the run.
            raise Rejected(f"google-genai failed: {self._shown(error)}") from None
        body = reply.sdk_http_response.body if reply.sdk_http_response else None
        return read_reply(body or "", self._key)

    async def close(self) -> None:
        """See `wire.Chat`."""
        await self._client.aio.aclose()
        self._client.close()
        await self._http.aclose()

    def _thinking(self) -> dict[str, int] | None:
        budget = self._settings.thinking_budget
        return None if budget is None else {"thinking_budget": budget}

    def _status_error(self, error: Exception) -> ChatError:
        code, message = getattr(error, "code", 0), self._key.redact(str(getattr(error, "message", None) or error))
        if not 400 <= code < 600:
            return Rejected(short(message))
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        details = json.dumps(getattr(error, "details", None), default=str)
        return status_error(code, message, headers, self._key.redact(details))

    def _shown(self, error: Exception) -> str:
        return short(self._key.redact(f"{type(error).__name__} {error}"))
