"""Requests of OpenAI's protocol, sent by the SDK's own HTTP client with the SDK's own headers: one attempt each.

`AsyncOpenAI` takes half of a judgement's CPU time to copy, merge and check what is the same in every request of a
judge; thousands of judgements a step would pay for it beside the training loop (`benchmarks/judging.py`).
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dar_jax.chat.errors import ChatError, ConnectionLost, Rejected, TooSlow
from dar_jax.chat.keys import Key
from dar_jax.chat.status import short, status_error

if TYPE_CHECKING:
    import httpx2
    import openai


class Sender:
    """Sends to where an SDK's client would, as that client would; `http` is the client that it has been given."""

    def __init__(self, client: "openai.AsyncOpenAI", http: "httpx2.AsyncClient", key: Key) -> None:
        self._http, self._key = http, key
        self._base_url = str(client.base_url).rstrip("/")
        headers = {**client.default_headers, **client.auth_headers}
        self._headers = http.headers.copy()
        # Some of them are marks of the SDK for what it leaves out.
        self._headers.update({name: value for name, value in headers.items() if isinstance(value, str)})
        self._urls: dict[str, httpx2.URL] = {}

    async def post(self, path: str, body: Mapping[str, Any], timeout_s: float) -> str:
        """Send a body to a path below the base URL, or to a whole URL; return what came, the key blotted out.

        Raises ChatError, typed by what happened.
        """
        import aiohttp
        import httpx2

        try:
            reply = await self._http.send(self._request(path, body, timeout_s))
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None
        except Exception as error:
            # Whatever else goes wrong below costs one verdict, not the run.
            raise Rejected(f"the request could not be sent: {self._shown(error)}") from None
        if not reply.is_success:
            raise self._refused(reply)
        return self._key.redact(reply.content.decode("utf-8", "replace"))

    def _request(self, path: str, body: Mapping[str, Any], timeout_s: float) -> "httpx2.Request":
        """Write a request as the client's own `build_request` does, but with headers that were merged beforehand."""
        import httpx2

        return httpx2.Request(
            "POST",
            self._url(path),
            headers=self._headers,
            cookies=self._http.cookies,
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
            extensions={"timeout": httpx2.Timeout(timeout_s).as_dict()},
        )

    def _url(self, path: str) -> "httpx2.URL":
        import httpx2

        if path not in self._urls:
            self._urls[path] = httpx2.URL(path if "://" in path else f"{self._base_url}{path}")
        return self._urls[path]

    def _lost(self, error: Exception) -> ChatError:
        import aiohttp
        import httpx2

        below = error.__cause__
        # The transport calls a connection that the server closed a connect timeout.
        closed = isinstance(below, aiohttp.ClientConnectionError) and not isinstance(below, TimeoutError)
        if isinstance(error, httpx2.TimeoutException | TimeoutError) and not closed:
            return TooSlow("the server did not answer in time")
        return ConnectionLost(f"the connection failed: {self._shown(below or error)}")

    def _refused(self, reply: "httpx2.Response") -> ChatError:
        """Find what the server said: OpenAI's message, else its whole body."""
        text = self._key.redact(reply.content.decode("utf-8", "replace"))
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        inner = body.get("error", body) if isinstance(body, dict) else None
        told = inner.get("message") if isinstance(inner, dict) else None
        return status_error(reply.status_code, str(told or text or reply.reason_phrase), reply.headers, text)

    def _shown(self, error: BaseException) -> str:
        return short(self._key.redact(f"{type(error).__name__} {error}"))
