"""Failures of the scripted server: errors instead of an answer, broken deliveries, and its rate limit."""

import asyncio
import email.utils
import math
import socket
import struct
import time

from aiohttp import web

from dar_jax.chat.scripted.dialects import Dialect

_DRIPS = 50
_PAGE = "<html><body>Welcome to the proxy</body></html>"
_STATUSES = {
    "rate_limit": (429, "too many requests"),
    "rate_limit_retry_after": (429, "too many requests"),
    "rate_limit_retry_date": (429, "too many requests"),
    "quota": (429, "you exceeded your current quota"),
    "server_error": (500, "something broke"),
    "unavailable": (503, "overloaded"),
    "bad_key": (401, "incorrect API key provided: {key}"),
}


class TokenBucket:
    """A rate limit as vendors apply it: the bucket fills by `per_minute` and holds a second's share, at least 1."""

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60.0
        self._most = max(1.0, self._per_s)
        self._left, self._at = self._most, time.monotonic()

    def take(self) -> bool:
        """Remove one request; return False if there is none left."""
        now = time.monotonic()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._per_s), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def failure(
    request: web.Request, dialect: Dialect, fault: str, after_s: float, clock_ahead_s: float
) -> web.StreamResponse | None:
    """Return the response of a fault that comes before any answer; None for other faults."""
    if fault == "reset_before":
        return reset(request)
    if fault in ("html", "bad_gateway"):
        return web.Response(text=_PAGE, content_type="text/html", status=502 if fault == "bad_gateway" else 200)
    if fault not in _STATUSES:
        return None
    status, message = _STATUSES[fault]
    response = error_response(
        dialect, status, message.format(key=shown_key(request)), after_s if fault == "rate_limit_retry_after" else None
    )
    if fault == "rate_limit_retry_date":
        now = time.time() + clock_ahead_s
        response.headers["date"] = email.utils.formatdate(now, usegmt=True)
        response.headers["retry-after"] = email.utils.formatdate(int(now) + math.ceil(after_s), usegmt=True)
    return response


def shown_key(request: web.Request) -> str:
    """Return the key of a request in either protocol."""
    return request.headers.get("authorization") or request.headers.get("x-goog-api-key") or ""


def error_response(dialect: Dialect, status: int, message: str, after_s: float | None = None) -> web.Response:
    """Return an error response of the protocol."""
    headers = {} if after_s is None else {"retry-after": f"{after_s:g}"}
    return web.json_response(dialect.error(status, message, after_s), status=status, headers=headers)


async def deliver(request: web.Request, body: bytes, fault: str, drip_s: float) -> web.StreamResponse:
    """Send an answer, as far as the fault allows."""
    half = body[: len(body) // 2]
    if fault == "reset_after":
        return reset(request)
    if fault == "truncated_json":
        body = half
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    if fault in ("reset_during", "cut_body"):
        await response.write(half)
        return reset(request, response) if fault == "reset_during" else _close(request, response)
    await _write(response, body, drip_s if fault == "drip" else 0.0)
    await response.write_eof()
    return _close(request, response) if fault == "closed_idle" else response


def reset(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Abort the connection with a TCP reset, not a normal close."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return response or web.Response()


def _close(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return response


async def _write(response: web.StreamResponse, body: bytes, drip_s: float) -> None:
    if not drip_s:
        await response.write(body)
        return
    size = math.ceil(len(body) / _DRIPS)
    for start in range(0, len(body), size):
        await asyncio.sleep(drip_s / _DRIPS)
        await response.write(body[start : start + size])
