"""How the scripted server fails a call: in place of an answer, or on the way of one."""

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


def instead(
    request: web.Request, dialect: Dialect, fault: str, after_s: float, clock_ahead_s: float
) -> web.StreamResponse | None:
    """Fail before any answer is made, as the fault says; None where it says nothing of the kind."""
    if fault == "reset_before":
        return reset(request)
    if fault in ("html", "bad_gateway"):
        return web.Response(text=_PAGE, content_type="text/html", status=502 if fault == "bad_gateway" else 200)
    if fault not in _STATUSES:
        return None
    status, message = _STATUSES[fault]
    response = refuse(
        dialect, status, message.format(key=shown_key(request)), after_s if fault == "rate_limit_retry_after" else None
    )
    if fault == "rate_limit_retry_date":
        now = time.time() + clock_ahead_s
        response.headers["date"] = email.utils.formatdate(now, usegmt=True)
        response.headers["retry-after"] = email.utils.formatdate(int(now) + math.ceil(after_s), usegmt=True)
    return response


def shown_key(request: web.Request) -> str:
    """Give the key that came with a request, as either protocol sends it."""
    return request.headers.get("authorization") or request.headers.get("x-goog-api-key") or ""


def refuse(dialect: Dialect, status: int, message: str, after_s: float | None = None) -> web.Response:
    """Answer with an error as the protocol writes it."""
    headers = {} if after_s is None else {"retry-after": f"{after_s:g}"}
    return web.json_response(dialect.error(status, message, after_s), status=status, headers=headers)


async def deliver(request: web.Request, body: bytes, fault: str, drip_s: float) -> web.StreamResponse:
    """Send an answer as far as the fault lets it come."""
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
    """Break the connection so that the other side is told of a reset, not of an end."""
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
