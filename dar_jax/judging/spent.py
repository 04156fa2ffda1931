"""What a run has paid its judge for, and what one more question may add to it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dar_jax.chat.wire import Request
from dar_jax.judging.prices import Price
from dar_jax.judging.segments import Row
from dar_jax.records import Usage

_BYTES_PER_TOKEN = 4


class Paid(NamedTuple):
    """A row of the ledger as far as money goes. `request` is JSON; tokens are None where the server did not say."""

    request: str
    written: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Answers billed, and the tokens they took; where the server did not say, the tokens they may have taken."""

    annotations: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(annotations=self.annotations + other.annotations, usage=self.usage + other.usage)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(annotations=self.annotations - other.annotations, usage=self.usage - other.usage)

    def usd(self, price: Price | None) -> float | None:
        """Price it in US dollars, None where the price is unknown. Tokens are added up first: the sum is the same in
        whatever order the answers came.
        """
        return None if price is None else price.at_most_usd(self.usage)


def estimate(request: Request) -> Spent:
    """Say before asking what an answer may take: a token per 4 bytes of input, every output token allowed."""
    return _estimate(size(request), request.n * request.max_tokens)


def billed(request: Request, usage: Usage | None) -> Spent:
    """Say what an answer took, as the server says or as estimated."""
    return estimate(request) if usage is None else Spent(annotations=1, usage=usage)


def size(request: Request) -> int:
    """Count the bytes of a question's words."""
    return sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)


def total(rows: Iterable[Paid]) -> Spent:
    """Add up the rows of a ledger."""
    return sum(map(_billed, rows), Spent())


def usage(row: Paid | Row) -> Usage | None:
    """Return the tokens billed for an answer, None where the server did not say."""
    if row.input_tokens is None or row.output_tokens is None:
        return None
    cached = row.cached_tokens or 0
    return Usage(input_tokens=row.input_tokens, cached_tokens=cached, output_tokens=row.output_tokens)


def _billed(row: Paid) -> Spent:
    used = usage(row)
    if used is None:
        request = json.loads(row.request)
        return _estimate(request.get("bytes", row.written), request["n"] * request["max_tokens"])
    return Spent(annotations=1, usage=used)


def _estimate(bytes_asked: int, output_tokens: int) -> Spent:
    tokens = -(-bytes_asked // _BYTES_PER_TOKEN)
    return Spent(annotations=1, usage=Usage(input_tokens=tokens, output_tokens=output_tokens))
