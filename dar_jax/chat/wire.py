"""The request and the answer of every wire.

Typed decisions are an optional part, which few servers support: `Level`, `Score`, `Request.scores` and
`AnswerChoice.probabilities` belong to them, `decisions.py` sends them, and everything else works without.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from dar_jax.chat.ramp import Ramp
from dar_jax.records import Message, Usage

# "unknown" is any name this package does not know: never read as a success.
Finish = Literal["stop", "length", "refusal", "blocked", "unknown"]

LOWEST_LOGPROB = -9999.0
# White space around a digit, also as tokenizers write it (byte-level BPE, SentencePiece).
BLANK = " \t\r\n\u0120\u2581\u010a"
# The only property of the JSON object that a server returns if a schema restricts the answer.
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
        # `asdict` copies deeply and would take more time than the rest of a judgement.
        plain: dict[str, Any] = {name: value for name, value in vars(self).items() if value or name not in _LATER}
        plain["messages"] = [{"role": message.role, "content": message.content} for message in self.messages]
        return plain | ({"scores": [asdict(score) for score in self.scores]} if self.scores else {})

    def deciding(self) -> dict[str, Any]:
        """Return the part that determines the answer, for the ledger key."""
        plain = self.to_plain()
        for score in plain.get("scores", ()):
            del score["weight"]
        return plain


# Left out of ledger keys if unset, so that ledgers from before these fields existed stay valid.
_LATER = frozenset({"scores", "prose"})


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """An alternative token and its natural log-probability."""

    token: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class AnswerChoice:
    """One of the n texts of an answer.

    `finish_name` is the server's own word for `finish`. `top` are the alternatives of the token that is the text: None
    if the server sent no log-probabilities, empty if it sent those of other tokens. `index` is its position among the
    n, None if not reported. `probabilities` are those of a score's levels, in the order of the request; they sum to the
    total probability of the levels.
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

    `usage` is None if the server reported none or an impossible one; `remark` describes odd counts. `unreadable` is the
    field that could not be parsed; such an answer has no choices, but is billed. `raw` is the reply itself.
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
    """An open wire, used from one event loop only. `ramp` limits the connections being opened."""

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
        """Open the wire for `connections` requests at once."""
        ...

    def identity(self) -> Mapping[str, object]:
        """Everything but the request that determines the answer; JSON, without secrets."""
        ...
