"""Map HTTP statuses to errors."""

import email.utils
import html
import json
import re
import time
from collections.abc import Mapping

from dar_jax.chat.failures import Blocked, ChatError, RateLimited, Rejected, ServerFault, Unauthorized, Unsupported

_LONGEST = 300
# A 429 that waiting will not cure: OpenAI's code for a spent balance, Gemini's name for a spent day.
_SPENT = re.compile(r"insufficient_quota|billing_hard_limit|PerDay", re.IGNORECASE)
_UNSUPPORTED = frozenset({400, 404, 405, 422, 501})
# The codes of a filter that refused what was asked: OpenAI's, and Azure's, which may be nested.
_FILTERED = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_DELAY = re.compile(r"[\"']retryDelay[\"']\s*:\s*[\"'](?P<seconds>\d+(?:\.\d+)?)s[\"']")


def status_error(status: int, message: str, headers: Mapping[str, str], details: str = "", hint: str = "") -> ChatError:
    """Build the error of an HTTP status that is no success.

    `message` must already be free of keys; `details` is the whole error body, searched but never shown; `hint` is a way
    out.
    """
    page = page_words(message)
    shown = f"HTTP {status}: {short(message) if page is None else f'a web page, {short(page)!r}'}"
    shown += f"; {hint}" if hint else ""
    if status == 429 and not _SPENT.search(f"{message} {details}"):
        return RateLimited(shown, retry_after_s(headers, details))
    # 501 is the answer of a server that will never know how.
    if status in (408, 409) or (status >= 500 and status != 501):
        return ServerFault(shown, retry_after_s(headers, details))
    if 400 <= status < 500 and (code := filter_code(details)):
        return Blocked(f"{code}: {short(message)}", details)
    # A page of words comes from a firewall or a proxy, which knows nothing of keys.
    if status in (401, 403) and page is None:
        shown += "; set judge.api_key_env or judge.api_key_file to a key of this server"
    if status == 401:
        return Unauthorized(shown)
    return Unsupported(shown) if status in _UNSUPPORTED else Rejected(shown)


def filter_code(body: str) -> str:
    """Return the code of a content filter in an error's JSON body, empty where there is none."""
    if not any(code in body for code in _FILTERED):
        return ""
    try:
        inner = json.loads(body)
    except ValueError:
        return ""
    codes = []
    while isinstance(inner, dict):
        codes.append(str(inner.get("code")))
        inner = next((inner[name] for name in ("error", "innererror", "inner_error") if inner.get(name)), None)
    return next((code for code in codes if code in _FILTERED), "")


def redirected(status: int, location: str) -> ChatError:
    """Build the error of a redirect that is not followed; `location` must already be free of keys."""
    where = location.partition("?")[0] or "nowhere"
    return Rejected(
        f"HTTP {status}: the server redirects to {short(where)}, and a question is not sent on to another address; set"
        " judge.base_url to the server itself"
    )


def page_words(text: str) -> str | None:
    """Return the title or text of a web page; None if a text is not one."""
    if not re.match(r"\s*<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
        return None
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    words = title[1] if title and title[1].strip() else re.sub(r"<[^>]*>", " ", text)
    return " ".join(html.unescape(words).split())


def retry_after_s(headers: Mapping[str, str], details: str = "") -> float | None:
    """Return the seconds that the server asks to wait: `retry-after-ms`, `retry-after`, Gemini's retryDelay."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds, after = _number(lower.get("retry-after-ms")), lower.get("retry-after")
    if milliseconds is not None:
        return milliseconds / 1000.0
    if after is not None:
        seconds = _number(after)
        return seconds if seconds is not None else _until(after, lower.get("date", ""))
    delay = _DELAY.search(details)
    return float(delay["seconds"]) if delay else None


def short(message: str) -> str:
    """Return a text from outside shortened to one line."""
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text) else None


def _until(date: str, sent: str) -> float | None:
    """Return seconds from the server's own clock, as ours may be wrong."""
    until, since = _timestamp(date), _timestamp(sent)
    return None if until is None else max(0.0, until - (time.time() if since is None else since))


def _timestamp(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
