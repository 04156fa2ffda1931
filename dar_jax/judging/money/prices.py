"""What an answer costs, in US dollars per million tokens. Unknown is None, never 0."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pydantic

from dar_jax.records import Usage
from dar_jax.settings.fields import STRICT, Name, PositiveOrZero

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$|-\d{3}$")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=STRICT)
class Price:
    """US dollars per million tokens, as of `date`; `cached` None: unknown, should any token be cached."""

    input: PositiveOrZero
    output: PositiveOrZero
    cached: PositiveOrZero | None = None
    date: Name

    def times(self, share: float) -> "Price":
        """Return the prices times a factor."""
        cached = None if self.cached is None else self.cached * share
        return Price(input=self.input * share, output=self.output * share, cached=cached, date=self.date)

    def cost_usd(self, usage: Usage | None) -> float | None:
        """Return the US dollars of one answer; None where its usage or a needed price is unknown."""
        if usage is None or (usage.cached_tokens and self.cached is None):
            return None
        return self.at_most_usd(usage)

    def at_most_usd(self, usage: Usage) -> float:
        """Return US dollars, never negative; cached tokens at the input's price where their own is unknown."""
        cached = self.input if self.cached is None else self.cached
        # More cached tokens than input: the server left them out of the input.
        fresh = usage.input_tokens - (usage.cached_tokens if usage.cached_tokens <= usage.input_tokens else 0)
        return (fresh * self.input + usage.cached_tokens * cached + usage.output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class Prices:
    """The prices of a panel's judges, by payee (`spent.payee`)."""

    by: Mapping[str, Price]

    def at_most_usd(self, usage: Mapping[str, Usage]) -> float:
        """Price tokens for a budget; those of a judge that is none of these as the dearest would be."""
        return sum(self._one(payee, used) for payee, used in sorted(usage.items()))

    def _one(self, payee: str, usage: Usage) -> float:
        known = self.by.get(payee)
        return max(price.at_most_usd(usage) for price in ([known] if known else self.by.values()))


def _row(input: float, cached: float, output: float) -> Price:
    return Price(input=input, cached=cached, output=output, date="2026-11")


# The list prices of both vendors' own endpoints, as the genai-prices package 0.2.3 gives them. Batch, flex
# and long-context tiers differ: `judge.price` overrides.
PRICES: Mapping[str, Price] = {
    "gpt-4o-mini": _row(0.15, 0.075, 0.60),
    "gpt-4.1-mini": _row(0.40, 0.10, 1.60),
    "gpt-4.1-nano": _row(0.10, 0.025, 0.40),
    "gpt-5-mini": _row(0.25, 0.025, 2.00),
    "gpt-5-nano": _row(0.05, 0.005, 0.40),
    "gpt-5.4-mini": _row(0.75, 0.075, 4.50),
    "gpt-5.4-nano": _row(0.20, 0.02, 1.25),
    "gpt-5.6-luna": _row(0.20, 0.02, 1.20),
    "gpt-6-luna": _row(0.10, 0.01, 0.50),
    "gpt-6-sol": _row(2.00, 0.20, 10.00),
    "gemini-2.5-flash": _row(0.30, 0.03, 2.50),
    "gemini-2.5-flash-lite": _row(0.10, 0.01, 0.40),
    "gemini-2.5-pro": _row(1.25, 0.125, 10.00),
    "gemini-3.1-flash-lite": _row(0.25, 0.025, 1.50),
    "gemini-3.5-flash": _row(1.50, 0.15, 9.00),
    "gemini-3.5-flash-lite": _row(0.30, 0.03, 2.50),
}

# Typed decisions are billed otherwise than the same model's chat. What Google takes for cached tokens is not known.
DECISION_PRICES: Mapping[str, Price] = {
    "gpt-6-luna": _row(0.10, 0.0, 0.0),
    "gemini-decision-1": Price(input=0.10, output=0.0, date="2026-11"),
}

# Of the list price of a chat, what both vendors take for one that may be answered within a day (November 2026).
BATCH_SHARE = 0.5

FREE = Price(input=0.0, cached=0.0, output=0.0, date="always")


def list_price(model: str, *, decision: bool = False) -> Price | None:
    """Look a vendor's own model up, with or without the date in its name: its chat, or its typed decisions."""
    prices = DECISION_PRICES if decision else PRICES
    return prices.get(model) or prices.get(_DATED.sub("", model))


# Four decimals, or four significant digits where that is more.
_DIGITS = 4
_SMALLEST = 1e-9


def amount(usd: float) -> str:
    """Return a number of US dollars, without the unit: 0.0000, 0.00002341, 1,204.5000."""
    if 0 < abs(usd) < _SMALLEST:
        return f"{usd:.{_DIGITS - 1}e}"
    zeros = -math.floor(math.log10(abs(usd))) - 1 if usd else 0
    return f"{usd:,.{_DIGITS + max(0, zeros)}f}"


def dollars(usd: float | None) -> str:
    """Return a cost with its unit; None is unknown."""
    return "cost unknown" if usd is None else f"{amount(usd)} US dollars"


def each_reward(usd: float | None, rewards: float) -> str:
    """Return `, 0.00002341 a reward`; empty where the cost is unknown or nothing, or where there is no reward."""
    return f", {amount(usd / rewards)} a reward" if usd and rewards else ""
