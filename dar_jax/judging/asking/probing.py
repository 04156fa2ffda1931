"""Probe the answer mode of a judge with one fixed question, whose answer the ledger stores.

The first mode that gives a reward is used. A mode that the server does not know, or answers otherwise, is skipped; a
server that does not answer, or refuses the key, stops the run as it would stop a step.
"""

import asyncio
from collections.abc import Sequence

from dar_jax.chat.failures import Unsupported
from dar_jax.errors import JudgeStopped
from dar_jax.judging.asking.seat import Asker
from dar_jax.judging.health import check_failures
from dar_jax.judging.money.budget import check_budget
from dar_jax.judging.money.spent import Spent
from dar_jax.records import Completion, Prompt, Verdict

# Short, and mediocre on any scale: the probe needs an answer, whatever it is.
_TEXTS = ("Paris, I think, which lies on the Seine.", "Lyon, and the river is the Seine.")
_PROMPT = Prompt(id=0, text="What is the capital of France, and which river runs through it?")
PROBES = tuple(
    Completion(prompt=_PROMPT, sample=sample, text=text, token_count=len(text.split()), ended=True)
    for sample, text in enumerate(_TEXTS)
)


async def choose(candidates: Sequence[Asker], spent: Spent) -> Asker:
    """Return the asker of the first mode that works. Raises JudgeStopped or BudgetSpent if none does.

    An answer in the ledger needs no call, so that a resumed run keeps its mode.
    """
    if len(candidates) == 1:
        return candidates[0]
    for candidate in candidates:
        if await candidate.known(_group(candidate)):
            return candidate
    return await _ask(candidates, spent)


def _group(candidate: Asker) -> tuple[Completion, ...]:
    return PROBES if candidate.terms.labels == "preference" else PROBES[:1]


async def _ask(candidates: Sequence[Asker], spent: Spent) -> Asker:
    verdicts: list[Verdict] = []
    for candidate in candidates:
        deadline = asyncio.get_running_loop().time() + candidate.terms.deadline_s
        verdict = (await candidate.verdicts(_group(candidate), deadline))[0]
        if verdict.status == "ok":
            return candidate
        check_budget([verdict], spent, candidate.price)
        if verdict.status in ("failed", "timeout") and not isinstance(candidate.last_error, Unsupported):
            check_failures([verdict], 0.0, candidate.label)
        verdicts.append(verdict)
    check_failures(verdicts, 0.0, f"{candidates[0].label}, every mode tried")
    raise JudgeStopped("no mode was tried")
