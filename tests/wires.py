"""The three wires to one loopback server, for the tests of both rooms."""

import importlib.util
from typing import Any

import pytest

from dar_jax.chat.scripted.server import Server
from dar_jax.judging import GeminiJudge, OpenAIJudge


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _wire(name: str, package: str) -> Any:
    return pytest.param(name, marks=pytest.mark.skipif(not _installed(package), reason=f"no {package}"))


WIRES = [
    _wire("openai", "openai"),
    _wire("google-genai", "google.genai"),
    _wire("google-generativeai", "google.generativeai"),
]


def judge_settings(wire: str, server: Server, **settings: Any) -> OpenAIJudge | GeminiJudge:
    """Settings that reach the server, impatient enough for tests."""
    settings = {"mode": "logprobs", "attempts": 2, "attempt_timeout_s": 5.0, "deadline_s": 10.0} | settings
    if wire == "openai":
        return OpenAIJudge(model="scripted", base_url=server.openai_url, **settings)
    return GeminiJudge(model="scripted", base_url=server.url, sdk=wire, **settings)
