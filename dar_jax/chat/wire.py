"""The request and the answer of every wire."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from dar_jax.chat.ramp import Ramp
from dar_jax.records import Message, Usage

# "unknown" is any name this package does not know: never read as a success.
Finish = Literal["stop", "length", "refusal", "blocked", "unknown"]

LOWEST_LOGPROB = -9999.0
# How far above 0 the logarithm of a probability of 1 may come out.
_ROUNDING = 1e-3
# White space around a digit, also as some tokenizers mark it in their tokens.
BLANK = " \t\r\n\u0120\u2581\u010a"
# Tokens that end a turn: <|im_end|>, </s>, <end_of_turn>, [EOS] and their like; not </think>, which ends no reply.
_END = re.compile(r"<(?!/?(?:think|reason|channel))[^<>\s]*>|\[(?:EOS|PAD|SEP)\]")
# The one property of the JSON object that an answer comes in where a server closes answers by a schema.
SCORE = "score"


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level of a score: its label and its meaning."""

    label: str
    description: str = ""

    def __str__(self) -> str:
        return f"{self.label}: {self.description}" if self.description else self.label


@dataclass(frozen=True, kw_only=True)
class Score:
    """A typed question: which of the levels fits the data of the messages?

    `weight` is the question's share of the judgement; it is not sent, and not part of a ledger key.
    """

    name: str
    instructions: str
    levels: tuple[Level, ...]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a chat model.

    `top_logprobs` is the number of alternatives of the answer token (0: none). `choices` are the only texts allowed as
    an answer, which a wire enforces as well as its server can. With `scores` it is a request for typed decisions about
    the messages, one answer each. `prose` asks for text, not a choice.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    n: int = 1
    seed: int | None = None
    top_logprobs: int = 0
    choices: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    prose: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON values, without unset fields."""
        # By hand: `asdict` copies deeply, and costs more than the rest of a judgement.
        plain: dict[str, Any] = {name: value for name, value in vars(self).items() if value or name not in _LATER}
        plain["messages"] = [{"role": message.role, "content": message.content} for message in self.messages]
        return plain | ({"scores": [asdict(score) for score in self.scores]} if self.scores else {})

    def deciding(self) -> dict[str, Any]:
        """Return the part that determines the answer, for the ledger key."""
        plain = self.to_plain()
        for score in plain.get("scores", ()):
            del score["weight"]
        return plain


# Fields that came after ledgers had been written: left out of a key where they say nothing.
_LATER = frozenset({"scores", "prose"})


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """An alternative token and its natural log-probability."""

    token: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class AnswerChoice:
    """One of the n texts of an answer.

    `finish_name` is the server's own word for `finish`. `top` holds the alternatives of the token that is the text,
    None where the server sent no log-probabilities, empty where it sent those of other tokens. `index` says which of
    the n it is, None where the server did not say. `probabilities` are those of a score's levels, in the order asked;
    they sum to what the model gave to the levels at all.
    """

    text: str | None
    finish: Finish
    finish_name: str = ""
    top: tuple[Alternative, ...] | None = None
    index: int | None = None
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A billed answer; for typed decisions a choice for each score, in their order.

    `usage` is None where the server reported none that can be true, `remark` is what is odd about it. `unreadable` is
    the field that kept a reply from being read; such an answer has no choices, and is paid for all the same. `raw` is
    the reply itself.
    """

    choices: tuple[AnswerChoice, ...]
    served_model: str
    usage: Usage | None = None
    blocked: str = ""
    unreadable: str = ""
    remark: str = ""
    raw: str = ""

    def to_json(self) -> str:
        """Return the answer as JSON for the ledger."""
        return _ANSWER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "Answer":
        """Return the answer from `to_json`."""
        return _ANSWER.validate_json(text)


_ANSWER = TypeAdapter(Answer)


class Chat(Protocol):
    """An open wire. Used from one event loop only. `ramp` is how its connections are opened."""

    ramp: Ramp

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once. Raises `failures.ChatError`; never retries."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class WireSettings(Protocol):
    """What the settings of each wire provide."""

    @property
    def model(self) -> str:
        """The requested model."""
        ...

    @property
    def address(self) -> str:
        """The address for messages, without secrets."""
        ...

    def check(self) -> None:
        """Raise SettingError if a key or package is missing; opens nothing."""
        ...

    def connect(self, connections: int) -> Chat:
        """Open the wire for `concurrency` requests at once."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Everything but the request that determines the answer; JSON, without secrets."""
        ...


def answer_token(
    tokens: Sequence[tuple[Alternative, Sequence[Alternative]]], text: str | None
) -> tuple[Alternative, ...] | None:
    """Return the alternatives of the token that is the reply's text, the chosen one among them.

    Each item is a position: the token chosen there, and the server's top alternatives. Servers list the thinking
    before the reply, or in its place: only the last token counts, but for white space and end tokens, and only where
    it is the whole text. Returns an empty tuple where it is not, None without positions.
    """
    for chosen, top in reversed(tokens):
        token = chosen.token.strip(BLANK)
        if token and token == (text or "").strip(BLANK):
            return tuple(top) if chosen.token in {each.token for each in top} else (*top, chosen)
        if token and not _END.fullmatch(chosen.token.strip()):
            break
    return () if tokens else None


def alternative(token: str, logprob: float | None) -> Alternative:
    """Build an Alternative; what is missing or no log-probability (NaN, above 0) counts as a probability of zero."""
    if logprob is None or not LOWEST_LOGPROB < logprob < _ROUNDING:
        logprob = LOWEST_LOGPROB
    return Alternative(token=token, logprob=logprob)
