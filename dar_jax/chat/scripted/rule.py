"""A chat model that follows a rule instead of weights: offline and exact.

It answers sealed questions (`envelope.py`) by scoring the completion with a named scorer. As the wire of
`judge: {name: scripted}` it runs in this process; `server.py` serves the same model over HTTP.
"""

import hashlib
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from dar_jax import __version__
from dar_jax.chat.envelope import unseal
from dar_jax.chat.failures import Rejected
from dar_jax.chat.ramp import Ramp
from dar_jax.chat.scripted.scorers import SCORERS, Scorer
from dar_jax.chat.scripted.scorers.overlap import HIGHEST, LOWEST
from dar_jax.chat.wire import Alternative, Answer, AnswerChoice, Request, Score
from dar_jax.records import Usage
from dar_jax.settings.fields import STRICT, Name, PositiveOrZero


@plain_dataclass(frozen=True, kw_only=True)
class ScriptedModel:
    """A scorer as a chat model: `scorer` maps prompt and completion to 1.0..10.0."""

    name: str
    scorer: Scorer

    @staticmethod
    def named(scorer: str, noise: float = 0.0) -> "ScriptedModel":
        """Build the model of a scorer of the package; `noise` is the standard deviation of its errors."""
        name = f"scripted-{scorer}" + (f"-noise-{noise}" if noise else "")
        return ScriptedModel(name=name, scorer=noisy(SCORERS[scorer], noise))

    def answer(self, request: Request) -> Answer:
        """Return the answer to a sealed question: the likeliest label, or `n` sampled labels if the temperature is
        above 0; for typed scores the probabilities of their levels; without choices a line of notes.

        Raises Rejected for any other message.
        """
        data, labels = _unsealed(request)
        choices = request.choices or labels
        if not (choices or request.scores):
            return self._answer(request, [AnswerChoice(text=self._notes(data), finish="stop", finish_name="stop")])
        scored = [_scored(score, self.probabilities(data, _labels(score))) for score in request.scores]
        return self._answer(request, scored or _sampled(request, choices, self.probabilities(data, choices)))

    def probabilities(self, data: Mapping[str, str], labels: tuple[str, ...]) -> dict[str, float]:
        """Return the probability of each label, whatever their order: from the score of a completion, or from the
        comparison of two.
        """
        values = self._values(data)
        if len(values) == 1:
            return dict(zip(sorted(labels), _adjacent(values[0], len(labels)), strict=True))
        first, second = values
        return {"1": 0.5, "2": 0.5} if first == second else {"1": float(first > second), "2": float(first < second)}

    def _values(self, data: Mapping[str, str]) -> list[float]:
        """Score the completion, or both if two are compared. Raises Rejected for other data."""
        try:
            texts = [data[name] for name in ("completion_1", "completion_2")] if "completion_1" in data else None
            return [self.scorer(data["prompt"], text) for text in texts or [data["completion"]]]
        except KeyError as error:
            raise Rejected(f"a scripted model answers sealed judge questions only: no {error}") from None

    def _notes(self, data: Mapping[str, str]) -> str:
        above = " and ".join(f"{value - LOWEST:.2f}" for value in self._values(data))
        return f"Its words place the text {above} above the lowest possible score."

    def _answer(self, request: Request, found: list[AnswerChoice]) -> Answer:
        written = [message.content for message in request.messages] + [score.instructions for score in request.scores]
        return Answer(
            choices=tuple(replace(each, index=i) for i, each in enumerate(found)),
            served_model=self.name,
            usage=Usage(input_tokens=sum(len(text.split()) for text in written), output_tokens=len(found)),
            raw=json.dumps([choice.text for choice in found]),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptedWire:
    """The scripted model in this process: no key, no network, no cost. `noise` is the standard deviation of the errors
    of its scores; a completion of a prompt always has the same error.
    """

    name: Literal["scripted"] = "scripted"
    scorer: Name = "overlap"
    noise: PositiveOrZero = 0.0

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(f"got {scorer!r}, expected one of {', '.join(sorted(SCORERS))}")
        return scorer

    @property
    def model(self) -> str:
        """The name of the model."""
        return ScriptedModel.named(self.scorer, self.noise).name

    @property
    def address(self) -> str:
        """The address for messages."""
        return "in this process"

    def identity(self) -> Mapping[str, object]:
        """Return what determines the answers."""
        # A scorer may change with the package.
        return {"wire": self.name, "model": self.model, "version": __version__}

    def check(self) -> None:
        """Check nothing: no key or package is needed."""

    def connect(self, connections: int) -> "ScriptedChat":
        """Open the wire."""
        return ScriptedChat(ScriptedModel.named(self.scorer, self.noise))


class ScriptedChat:
    """The open wire to a model in this process."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model, self.ramp = model, Ramp()

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Return the model's answer. Raises Rejected."""
        return self._model.answer(request)

    async def close(self) -> None:
        """Close nothing: nothing is open."""


def noisy(score: Scorer, deviation: float) -> Scorer:
    """Add normal errors of this standard deviation to a scorer, drawn from a hash of the two texts.

    Noisy scores beyond the scale count as its end, so that errors are smaller there.
    """

    def erring(prompt: str, completion: str) -> float:
        seed = hashlib.sha256(json.dumps([prompt, completion]).encode()).digest()
        return score(prompt, completion) + random.Random(seed).gauss(0.0, deviation)

    return erring if deviation else score


def _unsealed(request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the data and the labels of a sealed question. Raises Rejected."""
    try:
        return unseal(request.messages[-1].content)
    except ValueError as error:
        raise Rejected(f"a scripted model answers sealed judge questions only: {error}") from None


def _sampled(request: Request, choices: tuple[str, ...], weights: Mapping[str, float]) -> list[AnswerChoice]:
    listed = [weights[choice] for choice in choices]
    top, picks = _top(choices, listed, request.top_logprobs), _sample(request, listed)
    return [AnswerChoice(text=choices[pick], finish="stop", finish_name="stop", top=top) for pick in picks]


def _labels(score: Score) -> tuple[str, ...]:
    return tuple(level.label for level in score.levels)


def _scored(score: Score, weights: Mapping[str, float]) -> AnswerChoice:
    labels = _labels(score)
    probabilities = tuple(weights[label] for label in labels)
    likeliest = labels[probabilities.index(max(probabilities))]
    return AnswerChoice(text=likeliest, finish="stop", finish_name="score", probabilities=probabilities)


def _adjacent(value: float, count: int) -> list[float]:
    """Return probabilities of `count` levels whose mean is the score, above 0 for two adjacent levels at most."""
    at = (min(max(value, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST) * (count - 1)
    low = min(int(at), count - 2)
    weights = [0.0] * count
    weights[low], weights[low + 1] = 1.0 - (at - low), at - low
    return weights


def _sample(request: Request, weights: list[float]) -> list[int]:
    if not request.temperature:
        return [weights.index(max(weights))] * request.n
    seed = f"{request.seed}\n{request.messages[-1].content}"
    draw = random.Random(hashlib.sha256(seed.encode()).digest())
    return draw.choices(range(len(weights)), weights, k=request.n)


def _top(labels: tuple[str, ...], weights: list[float], count: int) -> tuple[Alternative, ...] | None:
    if not count:
        return None
    found = [
        Alternative(token=label, logprob=math.log(weight))
        for label, weight in zip(labels, weights, strict=True)
        if weight > 0
    ]
    return tuple(sorted(found, key=lambda alternative: -alternative.logprob)[:count])
