"""What a stored answer says, read again by the code that the judge uses, and what it cost."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dar_jax.chat import gemini, openai, openai_reply
from dar_jax.chat.failures import NotAnAnswer
from dar_jax.chat.keys import Key
from dar_jax.chat.wire import Answer
from dar_jax.judging.answers.parsing import Unusable, mode_of, read_as_asked
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.prices import FREE, Price, list_price
from dar_jax.judging.money.spent import usage
from dar_jax.records import Usage, Verdict

_READERS: Mapping[str, Callable[[str], Answer]] = {
    "openai": openai_reply.read_reply,
    "gemini": lambda raw: gemini.read_reply(raw, Key("")),
}


def reread(row: StoredAnswer, mass_floor: float) -> Verdict | None:
    """Read an answer's verdict, its usage and attempts as billed then; `failed` where what is stored is damaged.

    None of the notes that a judge wrote before its answer: they give no reward.

    The ledger keeps all that this takes but `mass_floor`, which decides no answer.
    """
    used = usage(row) or Usage()
    billed = Verdict(status="failed", served_model=row.served_model, annotations=1, calls=row.attempts, usage=used)
    try:
        answer, request = answer_of(row), json.loads(row.request)
        if request.get("prose"):
            return None
        mode, found = mode_of(request), read_as_asked(answer, request, mass_floor)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        return replace(billed, reason=f"what is stored cannot be read: {' '.join(str(fault).split())}")
    if isinstance(found, Unusable):
        return replace(billed, status=found.status, reason=found.reason, provenance=mode)
    return replace(billed, status="ok", distribution=found, provenance=mode)


def answer_of(row: StoredAnswer) -> Answer:
    """Return the answer in a row, as it is read today. Raises ValueError where it is damaged."""
    return current(replace(Answer.from_json(row.answer), raw=row.raw), described(row))


def current(answer: Answer, judge: Mapping[str, Any]) -> Answer:
    """Return a stored answer as its raw reply is read today: which token's log-probabilities count has changed.

    Only what holds log-probabilities, or could not be read when it was stored, is read again.
    """
    if judge.get("channel") == "decision" or not (
        answer.raw and (answer.unreadable or any(choice.top for choice in answer.choices))
    ):
        return answer
    if (read := _READERS.get(str(judge.get("wire")))) is None:
        return answer
    try:
        return read(answer.raw)
    except NotAnAnswer:
        return answer


def described(row: StoredAnswer) -> Mapping[str, Any]:
    """Return what the ledger says of an answer's judge; nothing where it does not know it."""
    try:
        found = json.loads(row.description or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def price(judge: Mapping[str, Any], stated: Sequence[Any] = ()) -> Price | None:
    """Find what a judge costs, None where that is unknown: as the settings `stated` for it say, or the list price.

    A typed decision has its own list price.
    """
    for member in stated:
        if (member.name, member.model) == (judge.get("wire"), judge.get("model")) and member.price:
            return member.price  # type: ignore[no-any-return]
    if judge.get("wire") == "scripted":
        return FREE
    at = str(judge.get("endpoint", ""))
    vendor = at == openai.VENDOR_URL or at.startswith(f"{gemini.VENDOR_URL}/")
    return list_price(str(judge.get("model")), decision=judge.get("channel") == "decision") if vendor else None
