"""Gemini, through google-genai; or through google-generativeai, which was discontinued in November 2025.

Both SDKs call `generateContent` over REST; their replies are parsed here from the same JSON.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from dar_jax.chat.endpoint import Address, SecretFile, VariableName, key_for
from dar_jax.chat.failures import NotAnAnswer, shorten
from dar_jax.chat.keys import Key
from dar_jax.chat.reply import Misfit, alternative, answer_token, build_answer, gemini_usage, parse_reply
from dar_jax.chat.wire import SCORE, Alternative, Answer, AnswerChoice, Chat, Finish, Request
from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, FreeOnResume, Integer, Name

VENDOR_URL = "https://generativelanguage.googleapis.com"
SDK = Literal["auto", "google-genai", "google-generativeai"]
_MODULES = {"google-genai": "google.genai", "google-generativeai": "google.generativeai"}
_EXTRAS = {"google-genai": "gemini", "google-generativeai": "gemini-legacy"}
# Only STOP is a success: the vendor keeps adding other reasons.
_FINISH: Mapping[str, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        ["SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"], "blocked"
    ),
    # The older SDK requests enum values as numbers.
    "1": "stop",
    "2": "length",
    **dict.fromkeys("346789", "blocked"),
}
_CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
Threshold = Literal["BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeminiWire:
    """Gemini. `sdk: auto` uses google-genai (extra `gemini`) if installed, else the discontinued google-generativeai
    (extra `gemini-legacy`), which has neither seed nor `thinking_budget`.

    The key comes from the variable `api_key_env` or the file `api_key_file`; by default GEMINI_API_KEY for
    Google's own address, and none for any other. `thinking_budget` 0 turns thinking off where the model allows
    it; thinking counts against `max_tokens`. `safety` is the threshold of all four adjustable filters.
    """

    name: Literal["gemini"] = "gemini"
    model: Name
    sdk: SDK = "auto"
    base_url: FreeOnResume[Address] = VENDOR_URL
    api_version: Name = "v1beta"
    api_key_env: FreeOnResume[VariableName] = None
    api_key_file: FreeOnResume[SecretFile] = None
    thinking_budget: Integer | None = None
    safety: Threshold = "BLOCK_NONE"

    @property
    def address(self) -> str:
        """The base URL and the SDK."""
        return f"at {self.base_url} ({self._installed_sdk()})"

    def identity(self) -> Mapping[str, object]:
        """Return the settings that determine the answers."""
        return {
            "wire": self.name,
            "sdk": self._installed_sdk(),
            "model": self.model,
            "endpoint": f"{self.base_url}/{self.api_version}",
            "thinking_budget": self.thinking_budget,
            "safety": self.safety,
        }

    def connect(self, connections: int) -> Chat:
        """Open the wire. Raises SettingError if the key or SDK is missing, or the SDK does not support a setting."""
        if self._installed_sdk() == "google-genai":
            from dar_jax.chat.gemini_sdk import GeminiChat

            return GeminiChat(self, self._key(), connections)
        from dar_jax.chat.gemini_legacy import LegacyGeminiChat

        return LegacyGeminiChat(self, self._key(), connections)

    def check(self) -> None:
        """Raise SettingError if the key or the SDK is missing."""
        self._installed_sdk()
        self._key()

    def _key(self) -> Key:
        return key_for(self.base_url, VENDOR_URL, "GEMINI_API_KEY", self.api_key_file, self.api_key_env)

    def _installed_sdk(self) -> str:
        """Return the SDK to use. Raises SettingError if it is not installed."""
        wanted = [self.sdk] if self.sdk != "auto" else list(_MODULES)
        for sdk in wanted:
            if _installed(_MODULES[sdk]):
                return sdk
        extra = _EXTRAS[wanted[0]]
        raise SettingError(f"judge.name: gemini needs the package {wanted[0]}; pip install 'dar-jax[{extra}]'")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def generation_config(request: Request) -> dict[str, Any]:
    """Return the settings of a request under the names that both SDKs use."""
    config: dict[str, Any] = {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "candidate_count": request.n if request.n > 1 else None,
        "response_logprobs": True if request.top_logprobs else None,
        "logprobs": request.top_logprobs or None,
    }
    if request.choices and not request.top_logprobs:
        config["response_mime_type"] = "application/json"
        # An enum of strings: integers of the schema allow no enum and, in the older SDK, no bounds.
        score = {"type": "STRING", "format": "enum", "enum": list(request.choices)}
        config["response_schema"] = {"type": "OBJECT", "properties": {SCORE: score}, "required": [SCORE]}
    return {name: value for name, value in config.items() if value is not None}


def safety_settings(threshold: str) -> list[dict[str, str]]:
    """Return all adjustable filters at one threshold."""
    return [{"category": f"HARM_CATEGORY_{name}", "threshold": threshold} for name in _CATEGORIES]


def split_system(request: Request) -> tuple[str | None, str]:
    """Return the system message and the others, as Gemini has a separate field for it."""
    system = [message.content for message in request.messages if message.role == "system"]
    user = [message.content for message in request.messages if message.role != "system"]
    return "\n\n".join(system) or None, "\n\n".join(user)


_CAMEL = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True)


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _GeminiPart:
    text: str | None = None
    thought: bool | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _Content:
    parts: list[_GeminiPart] | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _GeminiToken:
    token: str | None = None
    log_probability: float | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _Top:
    candidates: list[_GeminiToken] | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _GeminiLogprobs:
    chosen_candidates: list[_GeminiToken] | None = None
    top_candidates: list[_Top] | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _Candidate:
    content: _Content | None = None
    finish_reason: str | int | None = None
    index: int | None = None
    logprobs_result: _GeminiLogprobs | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _GeminiFeedback:
    block_reason: str | int | None = None


@pydantic.dataclasses.dataclass(frozen=True, config=_CAMEL)
class _GeminiReply:
    candidates: list[_Candidate] | None = None
    prompt_feedback: _GeminiFeedback | None = None
    usage_metadata: Any = None
    model_version: Any = None


_REPLY = TypeAdapter(_GeminiReply)


def read_reply(body: str, key: Key) -> Answer:
    """Return the answer in the JSON of a generateContent reply. Raises NotAnAnswer if it is not such a reply."""
    body = key.redact(body)
    reply = parse_reply(_REPLY, body, "candidates")
    if isinstance(reply, Misfit):
        return _unreadable(reply, body)
    blocked = reply.prompt_feedback and reply.prompt_feedback.block_reason
    if not (reply.candidates or blocked or reply.usage_metadata):
        raise _no_answer(body)
    choices, billed = map(_choice, reply.candidates or []), gemini_usage(reply.usage_metadata)
    return build_answer(body, billed, reply.model_version, choices, blocked=str(blocked or ""))


def _unreadable(reply: Misfit, body: str) -> Answer:
    """Return a reply that cannot be parsed: it is billed. Raises NotAnAnswer if it is not an answer."""
    found = reply.found
    counts, model = (found.get(to_camel(name)) or found.get(name) for name in ("usage_metadata", "model_version"))
    if not (found.get("candidates") or counts):
        raise _no_answer(body)
    return build_answer(body, gemini_usage(counts), model, unreadable=reply.fault)


def _no_answer(body: str) -> NotAnAnswer:
    return NotAnAnswer(f"HTTP 200, but no Gemini answer: {shorten(body)!r}")


def _choice(candidate: _Candidate) -> AnswerChoice:
    parts = (candidate.content.parts if candidate.content else None) or []
    texts = [part.text for part in parts if part.text is not None and not part.thought]
    text, finish = "".join(texts) if texts else None, str(candidate.finish_reason)
    return AnswerChoice(
        text=text,
        finish=_FINISH.get(finish, "unknown"),
        finish_name=finish,
        top=_top(candidate.logprobs_result, text),
        index=candidate.index,
    )


def _top(logprobs: _GeminiLogprobs | None, text: str | None) -> tuple[Alternative, ...] | None:
    if logprobs is None or not logprobs.chosen_candidates:
        return None
    tops = [top.candidates or [] for top in logprobs.top_candidates or []]
    tops += [[] for _ in logprobs.chosen_candidates[len(tops) :]]
    return answer_token(
        [
            (_alternative(chosen), [_alternative(other) for other in top])
            for chosen, top in zip(logprobs.chosen_candidates, tops, strict=False)
        ],
        text,
    )


def _alternative(token: _GeminiToken) -> Alternative:
    return alternative(token.token or "", token.log_probability)
