"""Whether a ledger is whole, says what a judge can use, and holds what a run has learnt from."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.judging.ledger.ledger import digest_of
from dar_jax.judging.ledger.ledger_sums import label
from dar_jax.judging.ledger.readers import Stored
from dar_jax.judging.ledger.rebuilding import Rebuilding, Rejudged, counted, judged_text, said_of
from dar_jax.judging.ledger.rereading import described, reread
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.spent import usage
from dar_jax.records import Verdict


class Logged:
    """The completions of a run that have a reward from the judge, to be found in the ledger.

    Read them before the ledger: a run that goes on meanwhile files an answer first and logs it later. This is for
    judgements of one answer each; see `rebuilding.py` for others.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.count = 0
        self._missing: dict[bytes, str] = {}
        self._unlike: dict[bytes, tuple[float, str]] = {}
        for row in rows:
            if row["verdict"] == "ok" and row["provenance"] != "rule":
                self.count += 1
                where = f"step {row['step']}, prompt_id {row['prompt_id']}, sample {row['sample']}"
                pair = _pair(row["prompt"], judged_text(row))
                self._missing.setdefault(pair, where)
                self._unlike.setdefault(pair, (row["reward"], where))

    def found(self, row: StoredAnswer, verdict: Verdict | None) -> None:
        """Tick off the completion that an answer is about."""
        pair = _pair(row.prompt, row.completion)
        self._missing.pop(pair, None)
        reward, _ = self._unlike.get(pair, (None, ""))
        # Another machine may round the exponentials otherwise.
        given = verdict.reward if verdict else None
        if reward is not None and given is not None and abs(reward - given) < 1e-6:
            del self._unlike[pair]

    def findings(self) -> list[str]:
        """Return findings on completions without an answer, or with another reward."""
        missing = self._missing
        unlike = [where for pair, (_, where) in self._unlike.items() if pair not in missing]
        return said_of(list(missing.values()), unlike)


def logged_of(rows: Iterable[Mapping[str, Any]], judge: Rebuilding | None) -> Logged | Rejudged:
    """Read a run's completions to be found again, by what its judge makes a judgement of."""
    return Rejudged(rows, judge) if judge and judge.needed else Logged(rows)


class Audit:
    """Look at every answer of some ledgers; `findings` says what is wrong, a line each."""

    def __init__(self, ledgers: Sequence[Stored], mass_floor: float, logged: Logged | Rejudged | None = None) -> None:
        self.answers = 0
        self._floor, self._logged = mass_floor, logged
        self._keys: dict[str, bytes] = {}
        self._twice = self._without_usage = 0
        self._unknown: Counter[str] = Counter()
        self._without_reward: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._served: dict[str, Counter[str]] = {}
        self._labels: dict[str, str] = {}
        self._faults_of_judges: list[str] = []
        self._faults = [fault for ledger in ledgers for fault in self._read(ledger)]

    def findings(self) -> list[str]:
        """Return what is wrong, one line each; [] if the ledger is sound."""
        of_log = self._logged.findings() if self._logged else []
        return [*self._faults, *self._faults_of_judges, *self._about_answers(), *of_log]

    def _read(self, ledger: Stored) -> list[str]:
        faults = ledger.faults()
        try:
            for row in ledger.rows():
                self._look(row)
        except SettingError as fault:
            faults.append(str(fault))
        return list(dict.fromkeys(faults))

    def _look(self, row: StoredAnswer) -> None:
        digest = _pair(row.answer, row.raw)
        if row.key in self._keys:  # a copy, which a crash may leave; or another answer
            self._twice += self._keys[row.key] != digest
        self._keys.setdefault(row.key, digest)
        self.answers += 1
        if row.judge not in self._labels:
            self._labels[row.judge] = label(row.judge, described(row))
            if row.description and digest_of(row.description) != row.judge:
                self._faults_of_judges.append(f"{self._labels[row.judge]}: the description of this judge is damaged")
        self._unknown[row.judge] += not described(row)
        if row.served_model:  # a filter that turns a question away names none
            self._served.setdefault(row.judge, Counter())[row.served_model] += 1
        self._without_usage += usage(row) is None
        verdict = reread(row, self._floor)
        if verdict is not None and verdict.status != "ok":
            self._without_reward[verdict.status] += 1
            self._examples.setdefault(verdict.status, verdict.reason)
        if self._logged:
            self._logged.found(row, verdict)

    def _about_answers(self) -> list[str]:
        found = []
        if self._twice:
            found.append(f"{counted(self._twice, 'question')} asked twice, with another answer; the first is used")
        for judge, count in self._unknown.items():
            if count:
                found.append(f"{counted(count, 'answer')} of {self._labels[judge]}: no judge is described under it")
        if self._without_usage:
            found.append(f"{counted(self._without_usage, 'answer')} without usage: what they cost is unknown")
        for status, count in self._without_reward.most_common():
            what = "damaged" if status == "failed" else f"no reward ({status})"
            found.append(f"{counted(count, 'answer')}: {what}, for example: {self._examples[status]}")
        for judge, models in self._served.items():
            if len(models) > 1:
                counts = ", ".join(f"{model} {count}" for model, count in models.most_common())
                found.append(f"{self._labels[judge]} was served by {len(models)} models: {counts}")
        return [" ".join(line.split()) for line in found]


def _pair(one: str, other: str) -> bytes:
    return hashlib.sha256(json.dumps([one, other]).encode()).digest()[:16]
