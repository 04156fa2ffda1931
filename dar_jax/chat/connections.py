"""HTTP clients whose connections are opened gradually and kept between steps: aiohttp's, and a hook for httpx2's.

Also how many connections the operating system allows.
"""

import errno
import os
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dar_jax.chat.ramp import CONNECT_S, KEPT_S, Opening, Ramp

if TYPE_CHECKING:
    import aiohttp
    import httpx2

# Left for the ledger, checkpoints, data files and libraries.
_RESERVED_FILES = 128
# Some systems refuse more, and no judge needs more connections.
_MOST_FILES = 65_536


def open_session(ramp: Ramp, tls: ssl.SSLContext | None) -> "aiohttp.ClientSession":
    """Open a client without connection limit, cookies or environment settings; `tls` None is never encrypted.

    Needs a running loop.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S, ssl=tls or True)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[_tracing(ramp)]
    )


def timeout(seconds: float) -> "aiohttp.ClientTimeout":
    """Return the timeouts of a request that has `seconds` in all."""
    import aiohttp

    return aiohttp.ClientTimeout(sock_connect=min(CONNECT_S, seconds), sock_read=seconds)


def proxy_of(url: str) -> dict[str, Any]:
    """Return the request arguments for the proxy that the environment sets for an address, if any."""
    import aiohttp
    from yarl import URL

    parts = urlsplit(url)
    named = urllib.request.getproxies()
    found = named.get(parts.scheme) or named.get("all")
    if not found or urllib.request.proxy_bypass(parts.hostname or ""):
        return {}
    proxy = URL(found if "://" in found else f"http://{found}")
    login = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return {"proxy": proxy.with_user(None), "proxy_auth": login}


def paced(ramp: Ramp) -> Callable[["httpx2.Request"], Awaitable[None]]:
    """Return a hook of an httpx2 client that makes requests wait for their turn to connect."""

    async def hook(request: "httpx2.Request") -> None:
        opening: Opening | None = None

        async def trace(event: str, _: object) -> None:
            nonlocal opening
            if event == "connection.connect_tcp.started":
                opening = await ramp.enter()
            elif opening is None:
                return
            elif event == "http11.receive_response_headers.complete":
                opening.answered()
            elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                opening.connected()
            elif event.endswith(".failed"):
                opening.failed()

        request.extensions["trace"] = trace
        given = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {**given, "connect": min(CONNECT_S, given.get("connect") or CONNECT_S)}

    return hook


def _tracing(ramp: Ramp) -> "aiohttp.TraceConfig":
    import aiohttp

    async def begin(session: object, request: SimpleNamespace, _: object) -> None:
        request.opening = None
        request.opening = await ramp.enter()

    async def connected(session: object, request: SimpleNamespace, _: object) -> None:
        request.opening.connected()

    async def answered(session: object, request: SimpleNamespace, _: object) -> None:
        if opening := _opening(request):
            opening.answered()

    async def failed(session: object, request: SimpleNamespace, event: "aiohttp.TraceRequestExceptionParams") -> None:
        if opening := _opening(request):
            opening.failed() if isinstance(event.exception, Exception) else opening.given_up()

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(begin)
    tracing.on_connection_create_end.append(connected)
    tracing.on_request_end.append(answered)
    tracing.on_request_exception.append(failed)
    return tracing


def _opening(request: SimpleNamespace) -> Opening | None:
    return getattr(request, "opening", None)


def room_for_connections() -> int | None:
    """Raise the soft limit of open files to the hard limit; return how many connections still fit, at least 1.

    Returns None if there is no known limit.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS allows less than it reports
            wanted = soft
        soft = wanted
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _open_files() - _RESERVED_FILES)


def out_of_files(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes means that no more files can be opened."""
    while error is not None:
        inner = getattr(error, "os_error", None) or error
        if isinstance(inner, OSError) and inner.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
