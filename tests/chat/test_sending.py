"""HTTP statuses, redirects and request headers, over a real socket."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler

import pytest

from dar_jax.chat.failures import Rejected, Unsupported
from dar_jax.chat.gemini import GeminiWire
from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.wire import Request
from dar_jax.records import Message
from tests.http_servers import COMPLETION, http_server
from tests.wires import WIRES

REQUEST = Request(messages=(Message(role="user", content="?"),), max_tokens=1)
KEY = 'sk-planted/7f3"9c41d6e5-and-more'


class Scripted(BaseHTTPRequestHandler):
    """Answers with `reply(handler)`: a status, headers and a body."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status, headers, body = type(self).reply(self)
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_error(405)

    def log_message(self, *_):
        return


def asked(reply, path="/v1", times=1, **settings):
    """Send requests to a server with these replies; return the answers."""
    handler = type("Handler", (Scripted,), {"reply": staticmethod(reply)})

    async def ask(url):
        chat = OpenAIWire(model="m", base_url=url, **settings).connect(1)
        try:
            return [await chat.ask(REQUEST, 5.0) for _ in range(times)]
        finally:
            await chat.close()

    with http_server(handler) as url:
        return asyncio.run(ask(f"{url}{path}"))


def error_of(reply, **settings):
    with pytest.raises(Rejected) as caught:
        asked(reply, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "way_out"),
    [
        ("", "judge.base_url ends in /v1 at most servers"),
        ("/v1/chat/completions", "leave /chat/completions out of judge.base_url"),
    ],
)
def test_the_error_of_an_unknown_path_has_a_hint(path, way_out):
    reason = error_of(lambda _: (404, {}, b"<html><body>404 Not Found</body></html>"), path=path)
    assert way_out in reason
    assert "a web page, '404 Not Found'" in reason
    assert "judge.base_url" not in error_of(lambda _: (404, {}, b'{"error": {"message": "no such model"}}'))


def test_a_redirect_that_changes_the_method_is_an_error():
    reason = error_of(lambda _: (302, {"location": "http://elsewhere/login?token=x"}, b""))
    assert reason.startswith("HTTP 302: the server redirects to http://elsewhere/login,")
    assert "set judge.base_url" in reason


def test_a_redirect_to_another_server_is_an_error():
    assert "redirects to http://127.0.0.1:9/v1" in error_of(lambda _: (307, {"location": "http://127.0.0.1:9/v1"}, b""))


def test_a_redirect_on_the_same_server_is_followed():
    def reply(handler):
        if handler.path.endswith("/"):
            return 200, {}, COMPLETION
        return 307, {"location": f"{handler.path}/"}, b""

    assert [answer.choices[0].text for answer in asked(reply)] == ["7"]


def test_the_error_of_a_firewalls_page_does_not_mention_the_key():
    page = b"<!DOCTYPE html><html><head><title>Access &amp; Denied</title></head><body>Ray ID 7</body></html>"
    assert error_of(lambda _: (403, {}, page)) == "HTTP 403: a web page, 'Access & Denied'"
    assert "judge.api_key_env" in error_of(lambda _: (403, {}, b'{"error": {"message": "forbidden"}}'))


@pytest.mark.parametrize("write", [str, json.dumps, lambda key: "".join(f"\\u{ord(each):04x}" for each in key)])
def test_a_repeated_key_is_redacted_after_decoding(write, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("GATEWAY", "gateway-secret-1")
    body = json.dumps({"error": {"message": f"bad key {write(KEY)} of {write('gateway-secret-1')}"}}).encode()
    reason = error_of(lambda _: (401, {}, body), api_key_env="MY_KEY", headers_env={"x-key": "GATEWAY"})
    assert json.loads(json.dumps(reason)).count("***") == 2
    assert "planted" not in reason
    assert "gateway" not in reason


def test_a_key_in_an_answer_is_redacted_in_every_form(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    escaped = "".join(f"\\u{ord(each):04x}" for each in KEY).encode()
    answers = asked(lambda _: (200, {}, COMPLETION.replace(b'"7"', b'"' + escaped + b'"')), api_key_env="MY_KEY")
    assert answers[0].choices[0].text == "***"
    assert "***" in answers[0].raw


def test_a_refused_key_is_read_again_from_its_file(tmp_path):
    file, shown = tmp_path / "key", []
    file.write_text("key-of-this-hour")

    def reply(handler):
        shown.append(handler.headers["authorization"])
        if shown[-1] == "Bearer key-of-next-hour":
            return 200, {}, COMPLETION
        file.write_text("key-of-next-hour")
        return 401, {}, b"{}"

    assert len(asked(reply, times=2, api_key_file=file)) == 2
    assert shown == ["Bearer key-of-this-hour", "Bearer key-of-next-hour", "Bearer key-of-next-hour"]


def test_an_unchanged_key_is_not_retried(tmp_path):
    file, shown = tmp_path / "key", []
    file.write_text("key-of-this-hour")
    assert "HTTP 401" in error_of(lambda handler: shown.append(1) or (401, {}, b"{}"), api_key_file=file)
    assert len(shown) == 1


def test_a_404_is_unsupported():
    with pytest.raises(Unsupported):
        asked(lambda _: (404, {}, b"{}"))


@pytest.mark.parametrize("sdk", [wire for wire in WIRES if wire.values[0] != "openai"])
def test_gemini_sends_keys_from_the_environment_to_the_vendor_only(sdk, monkeypatch):
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_QUOTA_PROJECT"):
        monkeypatch.setenv(name, f"planted-{name}")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    parts = {"role": "model", "parts": [{"text": "7"}]}
    body, shown = json.dumps({"candidates": [{"content": parts, "finishReason": "STOP"}]}).encode(), []

    def reply(handler):
        shown.append(f"{handler.path} {dict(handler.headers)}")
        return 200, {"content-type": "application/json"}, body

    async def ask(url):
        chat = GeminiWire(model="m", base_url=url, sdk=sdk).connect(1)
        try:
            return await chat.ask(REQUEST, 20.0)
        finally:
            await chat.close()

    with http_server(type("Handler", (Scripted,), {"reply": staticmethod(reply)})) as url:
        assert asyncio.run(ask(url)).choices[0].text == "7"
    assert shown
    assert "planted" not in str(shown)
