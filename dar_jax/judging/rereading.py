"""What a stored answer says, read again by the code that the judge uses, and what it cost."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dar_jax.chat import gemini, openai
from dar_jax.chat.wire import Answer
from dar_jax.judging.parsing import Mode, Unusable, read
from dar_jax.judging.prices import FREE, Price, list_price
from dar_jax.judging.protocol import Protocol
from dar_jax.judging.segments import Row
from dar_jax.judging.spent import usage
from dar_jax.records import Usage, Verdict


def reread(row: Row, mass_floor: float) -> Verdict:
    """Read an answer's verdict, its usage and attempts as billed then; `failed` where what is stored is damaged.

    The ledger keeps all that this takes but `mass_floor`, which decides no answer.
    """
    billed = Verdict(status="failed", served_model=row.served_model, calls=row.attempts, usage=usage(row) or Usage())
    try:
        answer, request = Answer.from_json(row.answer), json.loads(row.request)
        protocol = Protocol(rubric="", count=len(request["choices"]))
        if not protocol.labels:
            raise ValueError("the request asked for no level")
        mode, asked = _mode(request), int(request["n"])
    except (ValueError, KeyError, TypeError) as fault:
        return replace(billed, reason=f"what is stored cannot be read: {' '.join(str(fault).split())}")
    found = read(answer, protocol, mode, mass_floor, asked)
    if isinstance(found, Unusable):
        return replace(billed, status=found.status, reason=found.reason, provenance=mode)
    return replace(billed, status="ok", distribution=found, provenance=mode)


def described(row: Row) -> Mapping[str, Any]:
    """Return what the ledger says of an answer's judge; nothing where it does not know it."""
    try:
        found = json.loads(row.description or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def price(judge: Mapping[str, Any], stated: Any = None) -> Price | None:
    """Find what a judge costs, None where that is unknown: as the settings `stated` for it say, or the list price."""
    if stated is not None and (stated.name, stated.model) == (judge.get("wire"), judge.get("model")) and stated.price:
        return stated.price  # type: ignore[no-any-return]
    if judge.get("wire") == "scripted":
        return FREE
    at = str(judge.get("endpoint", ""))
    vendor = at == openai.VENDOR_URL or at.startswith(f"{gemini.VENDOR_URL}/")
    return list_price(str(judge.get("model"))) if vendor else None


def _mode(request: Mapping[str, Any]) -> Mode:
    if request["top_logprobs"]:
        return "logprobs"
    # Only samples are drawn, and so need a seed.
    return "single" if request["seed"] is None else "samples"
