"""The reward of one completion by itself: all its questions asked, their answers put together."""

import asyncio

from dar_jax.judging.answers.combining import combined, with_costs
from dar_jax.judging.answers.outcomes import About, Ask, costs_of, notes_of, verdict_of
from dar_jax.judging.questions.calls import Call, about_one
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Verdict


async def judge_one(terms: Judging, completion: Completion, about: About) -> Verdict:
    """Judge a completion by the questions that the terms make of it."""
    calls, ask = about_one(terms, completion), about(completion.prompt.text, completion.text)
    if len(calls) == 1:
        return await answered(terms, calls[0], ask)
    parts = await asyncio.gather(*(answered(terms, call, ask) for call in calls))
    return combined(parts, [call.weight for call in calls])


async def answered(terms: Judging, call: Call, ask: Ask) -> Verdict:
    """Ask one question; where the judge is to think first, ask for its notes and put them to the question."""
    outcome = await ask(call.request, call.rubric)
    if call.then is None:
        return verdict_of(outcome, call.request, terms.mass_floor)
    notes = notes_of(outcome)
    if isinstance(notes, Verdict):
        return notes
    request = call.then(notes)
    last = verdict_of(await ask(request, call.rubric), request, terms.mass_floor)
    return with_costs(last, [costs_of(outcome), last])
