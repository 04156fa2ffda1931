"""A chat model that follows a rule instead of weights: offline, exact, and judged by nobody.

It answers sealed questions (`envelope.py`) by scoring the completion with a named scorer. As the wire of
`judge: {name: scripted}` it runs in this process; `server.py` puts the same model behind real sockets.
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
from dar_jax.chat.errors import Rejected
from dar_jax.chat.scorers import SCORERS, Scorer
from dar_jax.chat.scorers.overlap import HIGHEST, LOWEST
from dar_jax.chat.wire import Alternative, Answer, Choice, Request, Score
from dar_jax.records import Usage
from dar_jax.settings import STRICT


@plain_dataclass(frozen=True, kw_only=True)
class ScriptedModel:
    """Turns a scorer into a model: `scorer` maps prompt and completion to 1.0..10.0."""

    name: str
    scorer: Scorer

    @staticmethod
    def named(scorer: str) -> "ScriptedModel":
        """Build the model of a scorer that the package has."""
        return ScriptedModel(name=f"scripted-{scorer}", scorer=SCORERS[scorer])

    def answer(self, request: Request) -> Answer:
        """Answer a sealed question: the likeliest label, or `n` labels drawn when the temperature is above 0; to typed
        scores, the probabilities of their levels; where nothing closes the answer, a line of notes.

        Raises Rejected on any other message.
        """
        judged, labels = _opened(request)
        choices, value = request.choices or labels, self.scorer(*judged)
        if not (choices or request.scores):
            return self._answer(request, [Choice(text=_notes(value), finish="stop", finish_name="stop")])
        return self._answer(
            request, [_scored(score, value) for score in request.scores] or _said(request, choices, value)
        )

    def _answer(self, request: Request, found: list[Choice]) -> Answer:
        written = [message.content for message in request.messages] + [score.instructions for score in request.scores]
        return Answer(
            choices=tuple(replace(each, index=i) for i, each in enumerate(found)),
            served_model=self.name,
            usage=Usage(input_tokens=sum(len(text.split()) for text in written), output_tokens=len(found)),
            raw=json.dumps([choice.text for choice in found]),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptedWire:
    """The scripted model in this process; no key, no network, no cost."""

    name: Literal["scripted"] = "scripted"
    scorer: str = "overlap"

    @field_validator("scorer")
    @classmethod
    def _known(cls, scorer: str) -> str:
        if scorer not in SCORERS:
            raise ValueError(f"there is no scorer {scorer!r}; choose one of: {', '.join(sorted(SCORERS))}")
        return scorer

    @property
    def model(self) -> str:
        """The name the model gives itself."""
        return f"scripted-{self.scorer}"

    @property
    def address(self) -> str:
        """Where the model is, for people."""
        return "in this process"

    def identity(self) -> Mapping[str, object]:
        """See `wire.WireSettings`."""
        # The rules of a scorer may change with the package.
        return {"wire": self.name, "model": self.model, "version": __version__}

    def check(self) -> None:
        """See `wire.WireSettings`: nothing is needed."""

    def connect(self, connections: int) -> "ScriptedChat":
        """Open the wire."""
        return ScriptedChat(ScriptedModel.named(self.scorer))


class ScriptedChat:
    """The wire to a model in this process."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """See `wire.Chat`."""
        return self._model.answer(request)

    async def close(self) -> None:
        """Nothing is open."""


def _opened(request: Request) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Find the prompt and the completion asked about, and the labels of a sealed question."""
    try:
        data, labels = unseal(request.messages[-1].content)
        return (data["prompt"], data["completion"]), labels
    except (ValueError, KeyError) as error:
        raise Rejected(f"a scripted model answers sealed judge questions only: {error}") from None


def _notes(value: float) -> str:
    return f"By its words it lies {value - LOWEST:.2f} above the lowest that there is."


def _said(request: Request, choices: tuple[str, ...], value: float) -> list[Choice]:
    weights = _two_neighbours(value, len(choices))
    top = _top(choices, weights, request.top_logprobs)
    picks = _picks(request, weights)
    return [Choice(text=choices[pick], finish="stop", finish_name="stop", top=top) for pick in picks]


def _scored(score: Score, value: float) -> Choice:
    """Answer a score whose levels may come in any order: each is labelled with its place in the scale."""
    labels = [level.label for level in score.levels]
    scale = dict(zip(sorted(labels), _two_neighbours(value, len(labels)), strict=True))
    probabilities = tuple(scale[label] for label in labels)
    likeliest = labels[probabilities.index(max(probabilities))]
    return Choice(text=likeliest, finish="stop", finish_name="score", probabilities=probabilities)


def _two_neighbours(value: float, count: int) -> list[float]:
    """Spread a score over `count` levels so that the mean is the score and at most two are likely."""
    at = (min(max(value, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST) * (count - 1)
    low = min(int(at), count - 2)
    weights = [0.0] * count
    weights[low], weights[low + 1] = 1.0 - (at - low), at - low
    return weights


def _picks(request: Request, weights: list[float]) -> list[int]:
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
