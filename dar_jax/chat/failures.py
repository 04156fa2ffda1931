"""Errors of one call to a chat model, and how an HTTP response becomes one.

    ChatError
    +-- Rejected            this request cannot succeed: no retry
    |   +-- Blocked         a content filter refused the request: 400 with the filter's code
    |   +-- Unauthorized    401: the server does not know the key, or no longer does
    |   +-- Unsupported     the server does not support this kind of request
    +-- Closing             the judge is closing: the request was not sent
    +-- Transient           a retry may succeed; `retry_after_s` is the delay the server asked for, or None
        +-- RateLimited     429, unless the quota is used up
        +-- ServerFault     408, 409, 5xx except 501
        +-- ConnectionLost  the connection broke before the response was complete
        |   +-- NotConnected    no connection: nothing was sent, so it does not count as an attempt
        |       +-- OutOfFiles      this process cannot open more files
        +-- TooSlow         no answer within the timeout of one attempt, or the deadline of the call
        +-- NotAnAnswer     status 200, but the body is not a chat answer (HTML, broken JSON)

A refusal, a block or a truncated text is an answer (`wire.AnswerChoice.finish`), not an error. Messages never contain
a key: wires redact the server's text first (`keys.Key.redact`).
"""

import email.utils
import html
import json
import re
import time
from collections.abc import Mapping

_LONGEST = 300
# A 429 that does not pass: OpenAI's code for a used-up balance, Gemini's name for a daily quota.
_QUOTA_USED_UP = re.compile(r"insufficient_quota|billing_hard_limit|PerDay", re.IGNORECASE)
_UNSUPPORTED = frozenset({400, 404, 405, 422, 501})
# Error codes of content filters: OpenAI's, and Azure's, which may be nested.
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_RETRY_DELAY = re.compile(r"[\"']retryDelay[\"']\s*:\s*[\"'](?P<seconds>\d+(?:\.\d+)?)s[\"']")


class ChatError(Exception):
    """Base class; `attempts` counts the requests sent before giving up."""

    attempts = 1


class Rejected(ChatError):
    """The server refused for good: bad request, bad key, unknown model, used-up quota."""


class Blocked(Rejected):
    """A content filter of the server refused the request; `body` is the response, redacted."""

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        self.body = body


class Unsupported(Rejected):
    """The server does not support this kind of request: 400, 404, 405, 422, 501. Another kind may work."""


class Unauthorized(Rejected):
    """The server does not accept the key (401)."""


class Closing(ChatError):
    """The judge is closing; nothing was sent."""

    attempts = 0


class Transient(ChatError):
    """The same request may succeed a little later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Transient):
    """Too many requests at present."""


class ServerFault(Transient):
    """The server failed."""


class ConnectionLost(Transient):
    """The connection broke before the response was complete."""


class NotConnected(ConnectionLost):
    """No connection could be opened; nothing was sent."""


class OutOfFiles(NotConnected):
    """Too many files are open; a connection in use becomes free in time."""

    def __init__(self) -> None:
        super().__init__("no more files can be opened; raise the limit (ulimit -n), or lower judge.concurrency")


class TooSlow(Transient):
    """No answer in time."""


class NotAnAnswer(Transient):
    """Status 200, but the body is not a chat answer."""


def status_error(status: int, message: str, headers: Mapping[str, str], details: str = "", hint: str = "") -> ChatError:
    """Build the error for an HTTP status of 400 or above.

    `message` must be redacted; `details` is the whole error body, which is searched but not shown; `hint` is appended
    to the message.
    """
    page = page_title(message)
    shown = f"HTTP {status}: {shorten(message) if page is None else f'a web page, {shorten(page)!r}'}"
    shown += f"; {hint}" if hint else ""
    if status == 429 and not _QUOTA_USED_UP.search(f"{message} {details}"):
        return RateLimited(shown, retry_after_s(headers, details))
    # 501 is permanent: the server does not implement the request.
    if status in (408, 409) or (status >= 500 and status != 501):
        return ServerFault(shown, retry_after_s(headers, details))
    if 400 <= status < 500 and (code := filter_code(details)):
        return Blocked(f"{code}: {shorten(message)}", details)
    # A web page comes from a firewall or proxy, which does not check keys.
    if status in (401, 403) and page is None:
        shown += "; set judge.api_key_env or judge.api_key_file to a key of this server"
    if status == 401:
        return Unauthorized(shown)
    return Unsupported(shown) if status in _UNSUPPORTED else Rejected(shown)


def filter_code(body: str) -> str:
    """Return the content filter's code in the JSON body of an error, or an empty string."""
    if not any(code in body for code in _FILTER_CODES):
        return ""
    try:
        inner = json.loads(body)
    except ValueError:
        return ""
    codes = []
    while isinstance(inner, dict):
        codes.append(str(inner.get("code")))
        inner = next((inner[name] for name in ("error", "innererror", "inner_error") if inner.get(name)), None)
    return next((code for code in codes if code in _FILTER_CODES), "")


def redirect_error(status: int, location: str) -> ChatError:
    """Build the error for a redirect that is not followed; `location` must be redacted."""
    target = location.partition("?")[0] or "nowhere"
    return Rejected(
        f"HTTP {status}: the server redirects to {shorten(target)}, and requests are not sent on to another address;"
        " set judge.base_url to the server itself"
    )


def page_title(text: str) -> str | None:
    """Return the title of a web page, or its text if it has none; None if the text is not a web page."""
    if not re.match(r"\s*<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
        return None
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    content = title[1] if title and title[1].strip() else re.sub(r"<[^>]*>", " ", text)
    return " ".join(html.unescape(content).split())


def retry_after_s(headers: Mapping[str, str], details: str = "") -> float | None:
    """Return the delay the server asks for, seconds: `retry-after-ms`, `retry-after` or Gemini's retryDelay."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds, after = _number(lower.get("retry-after-ms")), lower.get("retry-after")
    if milliseconds is not None:
        return milliseconds / 1000.0
    if after is not None:
        seconds = _number(after)
        return seconds if seconds is not None else _seconds_until(after, lower.get("date", ""))
    delay = _RETRY_DELAY.search(details)
    return float(delay["seconds"]) if delay else None


def shorten(text: str) -> str:
    """Return a text as one line of at most 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text) else None


def _seconds_until(date: str, sent: str) -> float | None:
    """Return the seconds from the server's own `date` header to a date: our clock may be wrong."""
    until, since = _timestamp(date), _timestamp(sent)
    return None if until is None else max(0.0, until - (time.time() if since is None else since))


def _timestamp(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
