"""Verdicts of a judgement: one completion alone, or all completions of a prompt compared with each other.

With comparisons, a reward is the mean over those of a completion (1 won, 1/2 tied, 0 lost), as a distribution over
the three. Each pair is asked in both orders, unless one is enough; if the answers disagree, the order decided, and it
is a tie.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dar_jax.judging.answers.combining import combined, names, with_costs
from dar_jax.judging.answers.outcomes import About, Ask, costs_of, notes_of, verdict_of
from dar_jax.judging.questions.calls import Call, about_one, about_two
from dar_jax.judging.questions.preference_question import in_order
from dar_jax.judging.questions.rules import is_degenerate, refused
from dar_jax.judging.questions.thoughts import without_thoughts
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Distribution, Verdict


async def judge_one(terms: Judging, completion: Completion, about: About) -> Verdict:
    """Return the verdict on one completion from all its questions."""
    calls, ask = about_one(terms, completion), about(completion.prompt.text, completion.text)
    if len(calls) == 1:
        return await answered(terms, calls[0], ask)
    parts = await asyncio.gather(*(answered(terms, call, ask) for call in calls))
    return combined(parts, [call.weight for call in calls])


async def answered(terms: Judging, call: Call, ask: Ask) -> Verdict:
    """Ask one question and return its verdict; if the judge writes notes first, ask for them before."""
    outcome = await ask(call.request, call.rubric)
    if call.then is None:
        return verdict_of(outcome, call.request, terms.mass_floor)
    notes = notes_of(outcome)
    if isinstance(notes, Verdict):
        return notes
    request = call.then(notes)
    last = verdict_of(await ask(request, call.rubric), request, terms.mass_floor)
    return with_costs(last, [costs_of(outcome), last])


LEVELS = (0.0, 0.5, 1.0)
# A probability closer than this to one half is a tie.
_EVEN = 1e-9


@dataclass(frozen=True, kw_only=True)
class Met:
    """One comparison from the side of one completion: its score, or the verdict with the reason why there is none.

    `parts` are its answers, empty if a rule decided; one of the two completions `pays` for them. `agreed` is whether
    both orders agree, None if one was asked; `belief` is the judge's probability that this completion is better.
    """

    won: float = 0.5
    belief: float | None = None
    failure: Verdict | None = None
    parts: tuple[Verdict, ...] = ()
    agreed: bool | None = None
    pays: bool = True

    def turned(self) -> "Met":
        """Return the comparison from the other side."""
        belief = None if self.belief is None else 1.0 - self.belief
        return replace(self, won=1.0 - self.won, belief=belief, pays=not self.pays)


async def judged(terms: Judging, group: Sequence[Completion], about: About) -> list[Verdict]:
    """Return the verdicts on completions that are judged together: those of a prompt by comparisons, or one alone.

    One with an unfinished thought is not asked about.
    """
    shown = [without_thoughts(each, terms) for each in group]
    whole = [each for each in shown if isinstance(each, Completion)]
    if terms.labels == "preference":
        found = iter(await judge_group(terms, whole, about))
    else:
        found = iter([await judge_one(terms, each, about) for each in whole])
    return [each if isinstance(each, Verdict) else next(found) for each in shown]


async def judge_group(terms: Judging, completions: Sequence[Completion], about: About) -> list[Verdict]:
    """Return the verdicts on all completions of a prompt by comparisons; a refused completion is in none."""
    verdicts = {i: ruled for i, each in enumerate(completions) if (ruled := refused(each.text, terms))}
    pairs = list(itertools.combinations([i for i in range(len(completions)) if i not in verdicts], 2))
    met = await asyncio.gather(*(_meet(terms, completions[i], completions[j], about) for i, j in pairs))
    found: list[list[Met]] = [[] for _ in completions]
    for (i, j), each in zip(pairs, met, strict=True):
        found[i].append(each)
        found[j].append(each.turned())
    return [verdicts.get(i) or _verdict(each) for i, each in enumerate(found)]


def _verdict(met: Sequence[Met]) -> Verdict:
    """Return the verdict of a completion from its comparisons; it fails if one failed."""
    if not met:
        return Verdict(status="failed", reason="no other completion of its prompt to compare it with", cost_usd=0.0)
    asked = [part for each in met for part in each.parts]
    paid = with_costs(_of(met, asked), [part for each in met if each.pays for part in each.parts])
    return replace(paid, from_ledger=bool(asked) and all(part.from_ledger for part in asked))


def _of(met: Sequence[Met], asked: Sequence[Verdict]) -> Verdict:
    failures = sorted((m.failure for m in met if m.failure), key=lambda failure: failure.status != "over_budget")
    if failures:
        return failures[0]
    counts = Counter(each.won for each in met)
    agreed = [each.agreed for each in met if each.agreed is not None]
    beliefs = [each.belief for each in met if each.belief is not None]
    picks = [_pick(part.reward) for part in asked if part.reward is not None]
    masses = [part.distribution.mass for part in asked if part.distribution]
    return Verdict(
        status="ok",
        distribution=Distribution(
            levels=LEVELS,
            probabilities=tuple(counts[level] / len(met) for level in LEVELS),
            mass=sum(masses) / len(masses) if masses else 1.0,
        ),
        provenance=names(part.provenance for part in asked) or "rule",
        reason="" if asked else "nothing to compare",
        served_model=names(part.served_model for part in asked),
        consistency=_mean(agreed),
        chose_first=_mean(picks),
        belief=_mean(beliefs),
    )


async def _meet(terms: Judging, one: Completion, other: Completion, about: About) -> Met:
    prompt, texts = one.prompt.text, (one.text, other.text)
    empty = [is_degenerate(text) for text in texts]
    if any(empty) or texts[0] == texts[1]:
        return Met(won=0.5 if empty[0] == empty[1] else float(empty[1]))
    first, second = in_order(prompt, *texts)
    orders = [(first, second), (second, first)][: 2 if terms.orders == "both" else 1]
    parts = await asyncio.gather(*(_ask(terms, prompt, *order, about) for order in orders))
    return _met(parts, turned=first != one.text)


async def _ask(terms: Judging, prompt: str, first: str, second: str, about: About) -> Verdict:
    call = about_two(terms, prompt, first, second)
    return await answered(terms, call, about(prompt, json.dumps([first, second], ensure_ascii=False)))


def _met(parts: Sequence[Verdict], turned: bool) -> Met:
    """Return the comparison from the answers in both orders; the second one has the completions swapped."""
    failed = sorted((part for part in parts if part.status != "ok"), key=lambda part: part.status != "over_budget")
    if failed:
        return Met(failure=failed[0], parts=tuple(parts))
    first, *second = [part.reward for part in parts if part.reward is not None]
    beliefs = [first, *(1.0 - share for share in second)]
    sides = {_pick(belief) for belief in beliefs}
    agreed = len(sides) == 1 if second else None
    met = Met(won=sides.pop() if len(sides) == 1 else 0.5, belief=_mean(beliefs), parts=tuple(parts), agreed=agreed)
    return replace(met.turned(), pays=met.pays) if turned else met


def _pick(share: float) -> float:
    return 0.5 if abs(share - 0.5) < _EVEN else float(share > 0.5)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
