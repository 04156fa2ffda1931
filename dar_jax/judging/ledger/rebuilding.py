"""Judgements of several answers, made again from what a ledger holds of them."""

import asyncio
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from dar_jax.chat.failures import ChatError
from dar_jax.chat.wire import Answer, Request
from dar_jax.judging.answers.combining import panel
from dar_jax.judging.answers.judgement import judged
from dar_jax.judging.answers.outcomes import Ask, Outcome
from dar_jax.judging.answers.parsing import Mode
from dar_jax.judging.ledger.ledger import stored
from dar_jax.judging.ledger.rereading import answer_of, described
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Prompt, Verdict

# What an answer is filed under, but for the address: a server may move during a run.
_Name = tuple[str, str]
_MISSING = "the ledger has no answer"


class Rebuilding:
    """The answers about some completions, and what a judge of one or several wires makes of them."""

    def __init__(self, members: Sequence[Judging]) -> None:
        self._members = members
        self._answers: dict[_Name, str] = {}

    @property
    def needed(self) -> bool:
        """Whether one answer is not the whole of a judgement."""
        first = self._members[0]
        several = len(first.criteria) > 1 or first.permutations > 1 or first.reasoning or self.compares
        return len(self._members) > 1 or several

    def add(self, row: StoredAnswer) -> None:
        """Add an answer; of several to one question the first is kept."""
        judge, request = described(row), _loaded(row.request)
        name = (_who(judge, request), _texts(row.prompt, row.completion))
        if name not in self._answers:
            self._answers[name] = _answer(row)

    @property
    def compares(self) -> bool:
        """Whether the completions of a prompt are judged together."""
        return self._members[0].labels == "preference"

    def verdicts(self, prompt: str, texts: Sequence[str]) -> list[Verdict]:
        """Judge completions again; a question whose answer is missing has failed. Raises ValueError where one is
        damaged.
        """
        asked = Prompt(id=0, text=prompt)
        told = [Completion(prompt=asked, sample=i, text=t, token_count=0, ended=True) for i, t in enumerate(texts)]
        columns = [self._member(member, told) for member in self._members]
        return [panel(parts) for parts in zip(*columns, strict=True)]

    def _member(self, member: Judging, told: Sequence[Completion]) -> list[Verdict]:
        modes: tuple[Mode, ...] = get_args(Mode) if member.mode == "auto" else (member.mode,)
        found: list[Verdict] = []
        for mode in modes:
            terms = replace(member, mode=mode, thoughts="show")  # the log holds what was judged
            found = asyncio.run(judged(terms, told, functools.partial(self._about, terms)))
            if any(verdict.status == "ok" and verdict.provenance != "rule" for verdict in found):
                break
        return found

    def _about(self, terms: Judging, prompt: str, completion: str) -> Ask:
        who = {"wire": getattr(terms, "name", ""), "model": getattr(terms, "model", "")}

        async def ask(request: Request, rubric: str) -> Outcome:
            name = (_who(who | {"rubric": rubric}, stored(request)), _texts(prompt, completion))
            if name not in self._answers:
                return Outcome(error=ChatError(_MISSING))
            return Outcome(answer=Answer.from_json(self._answers[name]), paid_before=True)

        return ask


class Rejudged:
    """The completions of a run that have a reward from the judge, to be judged again from the ledger's answers.

    Read them before the ledger: a run that goes on meanwhile files an answer first and logs it later.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], judge: Rebuilding) -> None:
        self.count, self._judge = 0, judge
        self._groups: dict[tuple[object, ...], dict[int, Mapping[str, Any]]] = {}
        for row in rows:
            self.count += _counts(row)
            if row["verdict"] == "truncated" and row["provenance"] == "rule":
                continue  # an unfinished thought, which was neither asked about nor compared
            kept = {name: row[name] for name in _LOGGED} | {"completion": judged_text(row)}
            # A step that was made again after a crash counts as it was made last.
            self._groups.setdefault(self._group(row), {})[row["sample"]] = kept

    def found(self, row: StoredAnswer, verdict: Verdict | None) -> None:
        """Add an answer."""
        self._judge.add(row)

    def findings(self) -> list[str]:
        """Return findings on completions without an answer, or with another reward."""
        missing, unlike = list[str](), list[str]()
        for group in self._groups.values():
            rows = list(group.values())
            try:
                verdicts = self._judge.verdicts(rows[0]["prompt"], [row["completion"] for row in rows])
            except (ValueError, KeyError, TypeError):  # damaged, which is a finding of its own
                continue
            for index, row in enumerate(rows):
                where = f"step {row['step']}, prompt_id {row['prompt_id']}, sample {row['sample']}"
                given = verdicts[index].reward
                if _counts(row) and verdicts[index].reason == _MISSING:
                    missing.append(where)
                # Another machine may round the exponentials otherwise.
                elif _counts(row) and (given is None or abs(given - row["reward"]) >= 1e-6):
                    unlike.append(where)
        return said_of(missing, unlike)

    def _group(self, row: Mapping[str, Any]) -> tuple[object, ...]:
        if self._judge.compares:
            return row["step"], row["prompt_id"]
        return row["step"], row["prompt_id"], row["sample"]


def judged_text(row: Mapping[str, Any]) -> str:
    """Return the text that a row of completions.jsonl was judged by."""
    return str(row.get("judged", row["completion"]))


def said_of(missing: Sequence[str], unlike: Sequence[str]) -> list[str]:
    """Write the findings about logged completions, from where each is."""
    return [
        f"{counted(len(wheres), 'completion')} {what}, the first: {wheres[0]}"
        for wheres, what in (
            (missing, "with a reward in completions.jsonl and no answer in the ledger"),
            (unlike, "with another reward in completions.jsonl than the answer gives"),
        )
        if wheres
    ]


def counted(count: int, what: str) -> str:
    """Write a number of things."""
    return f"{count:,} {what}{'s' * (count != 1)}"


_LOGGED = ("step", "prompt_id", "sample", "prompt", "completion", "verdict", "provenance", "reward")


def _counts(row: Mapping[str, Any]) -> bool:
    return bool(row["verdict"] == "ok" and row["provenance"] != "rule")


def _texts(prompt: str, completion: str) -> str:
    return f"{prompt}\0{completion}"


def _who(judge: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    asked = dict(request)
    if "scores" in asked:
        # A weight decides no answer; that of the judge at hand counts.
        asked["scores"] = [{k: v for k, v in score.items() if k != "weight"} for score in asked["scores"]]
    return json.dumps([judge.get("wire"), judge.get("model"), judge.get("rubric"), asked], sort_keys=True)


def _answer(row: StoredAnswer) -> str:
    try:
        return replace(answer_of(row), raw="").to_json()
    except ValueError:  # damaged, which is found when it is needed
        return row.answer


def _loaded(request: str) -> dict[str, Any]:
    try:
        plain = json.loads(request)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}
