"""Judgements of several answers, made again from what a ledger holds of them."""

import asyncio
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from dar_jax.chat.wire import Answer, Request
from dar_jax.judging.combining import panel
from dar_jax.judging.ledger import stored
from dar_jax.judging.outcomes import Ask, NotKept, Outcome
from dar_jax.judging.parsing import Mode
from dar_jax.judging.rereading import described
from dar_jax.judging.scalar import judge_one
from dar_jax.judging.segments import Row
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Prompt, Verdict

# What an answer is filed under, but for the address: a server may move during a run.
_Name = tuple[str, str]


class Rebuilding:
    """The answers about some completions, and what a judge of one or several wires makes of them."""

    def __init__(self, members: Sequence[Judging]) -> None:
        self._members = members
        self._answers: dict[_Name, str] = {}

    @property
    def needed(self) -> bool:
        """Whether one answer is not the whole of a judgement."""
        first = self._members[0]
        return len(self._members) > 1 or len(first.criteria) > 1 or first.permutations > 1 or first.reasoning

    def add(self, row: Row) -> None:
        """Take an answer in; of several to one question the first."""
        judge, request = described(row), _loaded(row.request)
        name = (_who(judge, request), _texts(row.prompt, row.completion))
        self._answers.setdefault(name, row.answer)

    def verdict(self, prompt: str, completion: str) -> Verdict | None:
        """Judge again; None where an answer is missing. Raises ValueError where one is damaged."""
        told = Completion(prompt=Prompt(id=0, text=prompt), sample=0, text=completion, token_count=0, ended=True)
        parts = [self._member(member, told) for member in self._members]
        there = [part for part in parts if part is not None]
        return panel(there) if len(there) == len(parts) else None

    def _member(self, member: Judging, told: Completion) -> Verdict | None:
        modes: tuple[Mode, ...] = get_args(Mode) if member.mode == "auto" else (member.mode,)
        for mode in modes:
            terms = replace(member, mode=mode)
            try:
                return asyncio.run(judge_one(terms, told, functools.partial(self._about, terms)))
            except NotKept:
                continue
        return None

    def _about(self, terms: Judging, prompt: str, completion: str) -> Ask:
        who = {"wire": getattr(terms, "name", ""), "model": getattr(terms, "model", "")}

        async def ask(request: Request, rubric: str) -> Outcome:
            name = (_who(who | {"rubric": rubric}, stored(request)), _texts(prompt, completion))
            if name not in self._answers:
                raise NotKept
            return Outcome(answer=Answer.from_json(self._answers[name]), paid_before=True)

        return ask


def _texts(prompt: str, completion: str) -> str:
    return f"{prompt}\0{completion}"


def _who(judge: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    asked = dict(request)
    if "scores" in asked:
        # A weight decides no answer; that of the judge at hand counts.
        asked["scores"] = [{k: v for k, v in score.items() if k != "weight"} for score in asked["scores"]]
    return json.dumps([judge.get("wire"), judge.get("model"), judge.get("rubric"), asked], sort_keys=True)


def _loaded(request: str) -> dict[str, Any]:
    try:
        plain = json.loads(request)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}
