"""The settings of a judge: whom to ask (a wire's), and how to judge (these)."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.chat import gemini, openai
from dar_jax.chat.gemini import GeminiWire
from dar_jax.chat.limits import Limits
from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.retry import Patience
from dar_jax.chat.scripted import ScriptedWire
from dar_jax.chat.wire import Request, WireSettings
from dar_jax.judging.judge import Judge, Terms
from dar_jax.judging.ledger import Ledger, Question
from dar_jax.judging.parsing import Mode
from dar_jax.judging.prices import FREE, Price, list_price
from dar_jax.judging.protocol import VERSION, Protocol, content_seed
from dar_jax.judging.rubrics import RUBRICS
from dar_jax.judging.rules import cut
from dar_jax.records import Completion
from dar_jax.settings import STRICT

TOP_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judging:
    """How to judge, whichever wire carries the questions.

    The question: `rubric` by name, or `rubric_text` of your own; rewards are the levels 1 to `levels`.
    The answer: `mode` is `logprobs` (mean over one digit's probabilities), `samples` (mean of `samples` answers)
    or `single` (one digit; coarse, most completions of a prompt tie). `temperature` null sends 0, or 1 for
    samples. Less than `mass_floor` of the probability (or of the samples) on the levels is no reward.
    Completions over `max_completion_chars` are shown cut, and the judge is told; `too_long: refuse` fails them.
    Times in seconds: one attempt, one call with its retries, one batch. More than `max_failure_share` of a
    batch without a reward stops the run. `prices` overrides the built-in list; `endpoint` is the address's
    name in the ledger, for a server that moves.
    """

    rubric: Literal["general", "tldr", "docstring"] = "general"
    rubric_text: str | None = None
    levels: int = Field(default=10, ge=2, le=10)
    mode: Mode = "logprobs"
    samples: int = Field(default=8, ge=1, le=128)
    temperature: NonNegativeFloat | None = None
    max_tokens: PositiveInt = 16
    mass_floor: float = Field(default=0.5, ge=0.0, le=1.0)
    max_completion_chars: PositiveInt = 20_000
    too_long: Literal["cut", "refuse"] = "cut"
    concurrency: PositiveInt = 32
    requests_per_minute: PositiveFloat | None = None
    attempts: PositiveInt = 6
    attempt_timeout_s: PositiveFloat = 60.0
    deadline_s: PositiveFloat = 180.0
    batch_deadline_s: PositiveFloat = 1800.0
    max_failure_share: float = Field(default=0.2, ge=0.0, le=1.0)
    prices: Price | None = None
    endpoint: str | None = None

    @model_validator(mode="after")
    def _one_rubric(self) -> Self:
        if self.rubric_text is not None and not self.rubric_text.strip():
            raise ValueError("rubric_text is empty; write what the judge shall look for, or leave it out")
        if self.rubric_text is not None and self.rubric != "general":
            raise ValueError("rubric and rubric_text are both given; keep one")
        return self

    def _protocol(self) -> Protocol:
        return Protocol(rubric=self.rubric_text or RUBRICS[self.rubric], count=self.levels)

    def _request(self, protocol: Protocol, completion: Completion) -> Request:
        text, missing = cut(completion.text, self.max_completion_chars)
        messages = protocol.messages(completion.prompt.text, text, missing)
        sampled = self.mode == "samples"
        default = 1.0 if sampled else 0.0
        return Request(
            messages=messages,
            max_tokens=self.max_tokens,
            temperature=default if self.temperature is None else self.temperature,
            n=self.samples if sampled else 1,
            seed=content_seed(messages) if sampled else None,
            top_logprobs=TOP_LOGPROBS if self.mode == "logprobs" else 0,
            choices=protocol.labels,
        )

    def _patience(self) -> Patience:
        return Patience(attempts=self.attempts, attempt_timeout_s=self.attempt_timeout_s, deadline_s=self.deadline_s)

    def _terms(self, protocol: Protocol, describe: str, price: Price | None) -> Terms:
        return Terms(
            protocol=protocol,
            mode=self.mode,
            samples=self.samples if self.mode == "samples" else 1,
            mass_floor=self.mass_floor,
            max_completion_chars=self.max_completion_chars,
            too_long=self.too_long,
            batch_deadline_s=self.batch_deadline_s,
            max_failure_share=self.max_failure_share,
            price=price,
            describe=describe,
        )


def open_judge(judging: Judging, wire: WireSettings, price: Price | None, ledger_path: Path) -> Judge:
    """Open the ledger, then the wire; both close with the judge. Raises SettingError."""
    protocol = judging._protocol()
    identity = {**wire.identity(), "protocol": VERSION, "rubric": protocol.rubric, "levels": protocol.count}
    if judging.endpoint:
        identity["endpoint"] = judging.endpoint

    def question(completion: Completion) -> Question:
        request = judging._request(protocol, completion)
        return Question(judge=identity, request=request, prompt=completion.prompt.text, completion=completion.text)

    rubric = "rubric of your own" if judging.rubric_text else f"rubric {judging.rubric}"
    describe = f"{wire.model} {wire.address}, mode {judging.mode}, {rubric}"
    ledger = Ledger(ledger_path)
    try:
        chat = wire.connect(judging.concurrency)
    except BaseException:
        ledger.close()
        raise
    limits = Limits(judging.concurrency, judging.requests_per_minute)
    return Judge(judging._terms(protocol, describe, price), chat, limits, judging._patience(), ledger, question)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptedJudge(ScriptedWire, Judging):
    """A rule in this process, see `chat/scripted.py`: no key, no network, no cost."""

    def open(self, ledger_path: Path) -> Judge:
        """Start judging, with answers kept in the ledger given."""
        return open_judge(self, self, self.prices or FREE, ledger_path)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenAIJudge(OpenAIWire, Judging):
    """A model behind any server that speaks OpenAI's chat completions."""

    def open(self, ledger_path: Path) -> Judge:
        """Start judging, with answers kept in the ledger given."""
        listed = list_price(self.model) if self.base_url == openai.VENDOR_URL else None
        return open_judge(self, self, self.prices or listed, ledger_path)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GeminiJudge(GeminiWire, Judging):
    """A Gemini model. By default the mean of sampled answers: many Gemini models give no log-probabilities."""

    mode: Mode = "samples"

    def open(self, ledger_path: Path) -> Judge:
        """Start judging, with answers kept in the ledger given."""
        listed = list_price(self.model) if self.base_url == gemini.VENDOR_URL else None
        return open_judge(self, self, self.prices or listed, ledger_path)
