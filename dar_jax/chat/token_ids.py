"""Token ids of answers on a vLLM server, requested once from its tokenizer."""

import asyncio
from collections.abc import Awaitable, Callable

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.failures import NotAnAnswer, Unsupported
from dar_jax.chat.status import short

Tokenize = Callable[[str, float], Awaitable[str]]


@pydantic.dataclasses.dataclass(frozen=True)
class _Tokens:
    tokens: list[int]


_TOKENS = TypeAdapter(_Tokens)


class TokenIds:
    """Finds the ids of texts that are one token each. `tokenize` sends one text, within so many seconds, and gives the
    reply's body.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize, self._known = tokenize, dict[str, int]()
        self._turn = asyncio.Lock()

    async def of(self, texts: tuple[str, ...], timeout_s: float) -> list[int]:
        """Return the texts' ids. Raises ChatError; Unsupported if a text is not a single token."""
        async with self._turn:
            for text in texts:
                if text not in self._known:
                    self._known[text] = _single(text, await self._tokenize(text, timeout_s))
        ids = [self._known[text] for text in texts]
        if len(set(ids)) != len(ids):
            raise Unsupported(f"the server's tokenizer writes two of {', '.join(texts)} alike; {_WAY_OUT}")
        return ids


def _single(text: str, body: str) -> int:
    try:
        tokens = _TOKENS.validate_json(body).tokens
    except pydantic.ValidationError:
        raise NotAnAnswer(f"HTTP 200, but no tokens: {short(body)!r}") from None
    if len(tokens) != 1:
        raise Unsupported(f"the server's tokenizer writes {text!r} as {len(tokens)} tokens; {_WAY_OUT}")
    return tokens[0]


_WAY_OUT = "leave judge.exact_digits out"
