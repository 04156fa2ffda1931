"""Gemini through google-generativeai, which was discontinued in November 2025.

The SDK is synchronous, so every attempt takes a thread. Its configuration is global: one key and one address a
process. It has neither seed nor thinking budget.
"""

import asyncio
import functools
import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from dar_jax.chat.failures import (
    ChatError,
    ConnectionLost,
    NotAnAnswer,
    NotConnected,
    Rejected,
    TooSlow,
    Unauthorized,
    Unsupported,
    shorten,
    status_error,
)
from dar_jax.chat.gemini import GeminiWire, generation_config, read_reply, safety_settings, split_system
from dar_jax.chat.keys import Key
from dar_jax.chat.ramp import Ramp
from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import SettingError

_CLOSING_S = 2.0
# The last HTTP response of each thread: all judges of a process share the SDK's client.
_last_http = threading.local()


class LegacyGeminiChat:
    """An open wire. One attempt a call: SDK retries are off."""

    def __init__(self, settings: GeminiWire, key: Key, connections: int) -> None:
        if settings.thinking_budget is not None:
            raise SettingError(
                f"judge.thinking_budget: {settings.thinking_budget} cannot be sent by google-generativeai; "
                "leave it out, or set judge.sdk=google-genai"
            )
        if settings.api_version != "v1beta":
            raise SettingError(
                f"judge.api_version: got {settings.api_version!r}, but google-generativeai supports v1beta only"
            )
        self._settings, self._key, self._sdk, self.ramp = settings, key, _sdk(), Ramp()
        self._configure()
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="gemini-legacy")

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once. Raises ChatError."""
        if request.scores:
            raise Unsupported(
                "google-generativeai has no typed decisions; set judge.sdk=google-genai, or another judge.mode"
            )
        work, loop = functools.partial(self._ask, request, timeout_s), asyncio.get_running_loop()
        version = self._key.version
        try:
            return await loop.run_in_executor(self._threads, work)
        except Unauthorized:
            if not self._key.renew(version):
                raise
            self._configure()
            return await loop.run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Close every connection; threads that still wait for the server end with their timeout."""
        ending = asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        await asyncio.wait([asyncio.create_task(ending)], timeout=_CLOSING_S)
        for model in self._models.values():
            if model._client is not None:
                model._client.transport.close()

    def _configure(self) -> None:
        options = {"api_endpoint": self._settings.base_url}
        self._sdk.configure(api_key=self._key.reveal(), transport="rest", client_options=options)
        self._models: dict[str | None, Any] = {}

    def _ask(self, request: Request, timeout_s: float) -> Answer:
        import requests
        from google.api_core import exceptions

        _last_http.response = None
        system, user = split_system(request)
        try:
            reply = self._model(system).generate_content(
                user,
                generation_config=generation_config(request),
                safety_settings=safety_settings(self._settings.safety),
                request_options={"timeout": timeout_s, "retry": None},
            )
        except exceptions.GoogleAPICallError as error:
            raise self._status_error(error) from None
        except requests.JSONDecodeError as error:
            return self._from_http(error)
        except requests.ConnectTimeout as error:
            raise NotConnected(f"the connection failed: {self._shown(error)}") from None
        except requests.Timeout:
            raise TooSlow("the server did not answer in time") from None
        except requests.RequestException as error:
            raise ConnectionLost(f"the connection failed: {self._shown(error)}") from None
        except Exception as error:
            return self._from_http(error)
        return read_reply(_as_json(reply), self._key)

    def _from_http(self, error: Exception) -> Answer:
        """Return a reply that the SDK cannot parse, since it is billed. Raises ChatError if there is none."""
        from google.protobuf.json_format import ParseError

        if (response := _last_http.response) is not None and response.status_code == 200:
            return read_reply(response.text, self._key)
        if isinstance(error, ParseError):
            raise NotAnAnswer(f"HTTP 200, but no Gemini answer: {self._shown(error)}") from None
        # An unknown error costs one verdict, not the run.
        raise Rejected(f"google-generativeai failed: {self._shown(error)}") from None

    def _model(self, system: str | None) -> Any:
        from google.generativeai import client

        if system not in self._models:
            model: Any = self._sdk.GenerativeModel(self._settings.model, system_instruction=system)
            # As the SDK does at its first request. The hook keeps replies that the SDK cannot parse.
            model._client = client.get_default_generative_client()
            model._client.transport._session.hooks["response"] = [_keep_response]
            self._models[system] = model
        return self._models[system]

    def _status_error(self, error: Any) -> ChatError:
        message, response = self._key.redact(str(error.message)), error.response
        if error.code is None:
            return Rejected(shorten(message))
        text = getattr(response, "text", "") or str(error.details)
        return status_error(int(error.code), message, getattr(response, "headers", {}), self._key.redact(text))

    def _shown(self, error: Exception) -> str:
        return shorten(self._key.redact(f"{type(error).__name__} {error}"))


def _keep_response(response: Any, **_: Any) -> None:
    _last_http.response = response


def _sdk() -> ModuleType:
    with warnings.catch_warnings():
        # The user chose an SDK that the docs call discontinued; a warning would add nothing.
        for message in (r"\s*All support for the", r"You are using a Python version .*google\.api_core"):
            warnings.filterwarnings("ignore", message=message, category=FutureWarning)
        import google.generativeai

        module: ModuleType = google.generativeai
    return module


def _as_json(reply: Any) -> str:
    """Return the SDK's reply as REST JSON, with names for enum numbers."""
    candidates = [_plain(candidate) for candidate in reply.candidates]
    feedback = _plain(reply.prompt_feedback)
    if feedback.get("block_reason") in (None, "BLOCK_REASON_UNSPECIFIED"):
        feedback = {}
    # The SDK sets counts that were not sent to 0.
    usage = (
        {name: count for name, count in _plain(reply.usage_metadata).items() if count} if reply.usage_metadata else None
    )
    model = reply.to_dict().get("model_version")
    parts = {"candidates": candidates, "prompt_feedback": feedback, "usage_metadata": usage, "model_version": model}
    return json.dumps(parts)


def _plain(message: Any) -> dict[str, Any]:
    return dict(type(message).to_dict(message, use_integers_for_enums=False))
