"""Send requests of OpenAI's protocol with the headers of the openai SDK, one attempt each.

`AsyncOpenAI` uses half of a judgement's CPU time to copy, merge and check what is the same in every request, which
thousands of judgements a step would take from the training loop (`benchmarks/judging.py`).
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from dar_jax.chat.connections import open_session, out_of_files, proxy_of, timeout
from dar_jax.chat.failures import (
    ChatError,
    ConnectionLost,
    NotConnected,
    OutOfFiles,
    Rejected,
    TooSlow,
    Unauthorized,
    redirect_error,
    shorten,
    status_error,
)
from dar_jax.chat.keys import Credentials
from dar_jax.chat.ramp import CONNECT_S, Ramp

if TYPE_CHECKING:
    import aiohttp

_MOST_REDIRECTS = 3


class Sender:
    """Sends requests below a base URL, with headers and credentials."""

    def __init__(self, base_url: str, headers: Mapping[str, str], credentials: Credentials) -> None:
        import httpx2

        self.ramp = Ramp()
        self._base_url, self._credentials = base_url.rstrip("/"), credentials
        self._common = dict(headers)
        self._headers = self._merge_headers()
        # httpx's certificates, as in the SDK: the system may have none.
        self._tls = httpx2.create_ssl_context() if base_url.startswith("https:") else None
        self._proxy = proxy_of(self._base_url)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: Mapping[str, Any], timeout_s: float) -> str:
        """Send a body to a path below the base URL, or to a URL; return the redacted response.

        If the server refuses the key, its file is read again and a changed key is tried once. Raises ChatError.
        """
        url = path if "://" in path else f"{self._base_url}{path}"
        version = self._credentials.version
        try:
            return await self._send(url, body, timeout_s)
        except Unauthorized:
            if not self._credentials.renew(version):
                raise
            self._headers = self._merge_headers()
            return await self._send(url, body, timeout_s)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, url: str, body: Mapping[str, Any], timeout_s: float) -> str:
        import aiohttp

        try:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            for _ in range(_MOST_REDIRECTS):
                async with self._request(url, content, timeout_s) as reply:
                    text = (await reply.read()).decode("utf-8", "replace")
                if reply.status < 300:
                    return self._credentials.redact(text)
                if (target := _redirect_target(url, reply)) is None:
                    raise self._error_of(reply, text)
                url = target
        except ChatError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._connection_error(error) from None
        except Exception as error:
            # An unknown error costs one verdict, not the run.
            raise Rejected(f"the request could not be sent: {self._shown(error)}") from None
        raise Rejected(f"the server redirects {_MOST_REDIRECTS} times; set judge.base_url to the final address")

    def _request(self, url: str, content: bytes, timeout_s: float) -> Any:
        if self._session is None:
            self._session = open_session(self.ramp, self._tls)
        return self._session.post(
            url,
            data=content,
            headers=self._headers,
            timeout=timeout(timeout_s),
            # A redirect would send the headers to another server, and status 302 turns POST into GET.
            allow_redirects=False,
            **self._proxy,
        )

    def _merge_headers(self) -> dict[str, str]:
        """Return the merged headers; later ones replace earlier ones, ignoring case."""
        merged: dict[str, str] = {}
        authorization = {"Authorization": f"Bearer {self._credentials.key.reveal()}"}
        for headers in (self._common, authorization, self._credentials.headers()):
            names = {name.lower() for name in headers}
            merged = {name: value for name, value in merged.items() if name.lower() not in names} | headers
        return merged

    def _connection_error(self, error: Exception) -> ChatError:
        import aiohttp

        if out_of_files(error):
            return OutOfFiles()
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return NotConnected(f"the connection failed: no connection within {CONNECT_S:g} s")
        if isinstance(error, TimeoutError):
            return TooSlow("the server did not answer in time")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Rejected(f"the server's certificate is not trusted; set SSL_CERT_FILE: {self._shown(error)}")
        kind = NotConnected if isinstance(error, aiohttp.ClientConnectorError) else ConnectionLost
        return kind(f"the connection failed: {self._shown(error)}")

    def _error_of(self, reply: "aiohttp.ClientResponse", text: str) -> ChatError:
        """Build the error of a response that is not a success, with the server's message or else its whole body."""
        if 300 <= reply.status < 400:
            return redirect_error(reply.status, self._credentials.redact(reply.headers.get("location", "")))
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        inner = body.get("error", body) if isinstance(body, dict) else None
        decoded = inner.get("message") if isinstance(inner, dict) else None
        # Redacted after decoding too: the body may escape characters of a key.
        message = self._credentials.redact(str(decoded or text or reply.reason))
        details = self._credentials.redact(text)
        return status_error(reply.status, message, reply.headers, details, address_hint(reply.status, self._base_url))

    def _shown(self, error: BaseException) -> str:
        return shorten(self._credentials.redact(f"{type(error).__name__} {error}"))


def address_hint(status: int, base_url: str) -> str:
    """Return what may be wrong with a base URL if the server does not know the path."""
    if status not in (404, 405):
        return ""
    if (path := urlsplit(base_url).path).endswith("/completions"):
        return "leave /chat/completions out of judge.base_url; it is added"
    return "" if re.search(r"/v\d", path) else f"judge.base_url ends in /v1 at most servers: {base_url}/v1"


def _redirect_target(url: str, reply: "aiohttp.ClientResponse") -> str | None:
    """Return the target of a redirect that keeps both the POST method and the server, else None."""
    target = urljoin(url, reply.headers.get("location", ""))
    same = urlsplit(target)[:2] == urlsplit(url)[:2]
    return target if reply.status in (307, 308) and same and target != url else None
