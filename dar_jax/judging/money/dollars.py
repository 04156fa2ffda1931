"""US dollars as text: a cost that is not zero never reads as zero."""

import math

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
