"""What can be done with a ledger beside judging: look at it, write it out, put several into one, audit it."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console as Rich

from dar_jax.errors import SettingError
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.audit import Audit, logged_of
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.ledger.ledger_sums import date, statistics
from dar_jax.judging.ledger.rebuilding import Rebuilding
from dar_jax.judging.ledger.rereading import reread
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import usage
from dar_jax.judging.section import Settings, members, parse_judge
from dar_jax.judging.terms import Judging
from dar_jax.reporting.ledger_table import show
from dar_jax.runlog import layout
from dar_jax.runlog.new_file import new_file
from dar_jax.runlog.rows import to_lines
from dar_jax.settings.yaml_settings import plain
from dar_jax.terminal.json_text import json_text

Place = Path | str
_AT_ONCE = 1024
# Of a row of completions.jsonl, what an audit looks at.
_LOGGED = {"step", "prompt_id", "sample", "prompt", "completion", "verdict", "provenance", "reward"}


def stats(place: Place, out: Rich, *, as_json: bool, prices: str | None = None) -> None:
    """Print the sums by judge and served model, or one JSON object. `prices` are those of all answers, as YAML; without
    them they are the run's, or the vendors' list prices. Raises SettingError.
    """
    judge, rows = _judge_of(place), readers.distinct(_rows(readers.find(place)), readers.billing)
    found = statistics(
        rows,
        members(judge) if judge else (),
        prices_of_all=_price(prices) if prices else None,
        mass_floor=_floor(place, None),
    )
    if as_json:
        print(json_text(found.to_plain(), indent=1))
    else:
        show(found, out)


def export(place: Place, output: Path, mass_floor: float | None) -> str:
    """Write one JSON object an answer, but for damaged ones, to a new file; return what to say of it."""
    ledgers, floor, count = readers.find(place), _floor(place, mass_floor), 0
    damaged = sum(len(ledger.damaged()) for ledger in ledgers)
    with new_file(output) as scratch, scratch.open("w", encoding="utf-8", errors="backslashreplace") as file:
        whole = itertools.chain.from_iterable(ledger.whole_rows() for ledger in ledgers)
        for row in readers.distinct(whole, readers.key):
            file.writelines(to_lines([_exported(row, floor)]))
            count += 1
    return f"{output}: {count:,} answers{_left_out(damaged)}"


def merge(places: Sequence[Place], output: Path) -> str:
    """Write the answers of several ledgers, but for damaged ones, into a new one, the first of each key; return what to
    say of it.
    """
    ledgers = [ledger for place in places for ledger in readers.find(place)]
    damaged = sum(len(ledger.damaged()) for ledger in ledgers)
    read = kept = 0
    with new_file(output) as scratch, Ledger(scratch) as merged:
        for ledger in ledgers:
            rows = ledger.whole_rows()
            while some := list(itertools.islice(rows, _AT_ONCE)):
                read += len(some)
                kept += merged.add(some)
    repeats = f"; {read - kept:,} more had the key of one before them, which was kept"
    return f"{output}: {kept:,} answers{repeats}{_left_out(damaged)}"


def audit(place: Place, mass_floor: float | None) -> tuple[list[str], str]:
    """Look for what is wrong; return the findings, a line each, and what was looked at."""
    ledgers, faults = readers.find(place), list[str]()
    is_run, judge = "://" in str(place) or Path(place).is_dir(), _judge_of(place)
    rebuilding = Rebuilding(members(judge)) if judge else None
    logged = logged_of(_completions(place, faults), rebuilding) if is_run else None
    found = Audit(ledgers, _floor(place, mass_floor), logged)
    of_log = f", {logged.count:,} completions with a reward" if logged else ""
    return [*found.findings(), *faults], f"{place}: {found.answers:,} answers{of_log}"


def _price(text: str) -> Price:
    try:
        return TypeAdapter(Price).validate_python(plain(text, Price))
    except ValueError as fault:
        reason = fault.errors()[0]["msg"] if isinstance(fault, ValidationError) else str(fault)
        raise SettingError(
            f"--prices {text}: {reason}; expected US dollars per million tokens, such as"
            " '{input: 0.1, output: 0.5, date: 2026-11}'"
        ) from None


def _rows(ledgers: Sequence[readers.Stored]) -> Iterator[StoredAnswer]:
    return itertools.chain.from_iterable(ledger.rows() for ledger in ledgers)


def _left_out(damaged: int) -> str:
    return f"; {damaged:,} damaged ones were left out" if damaged else ""


def _exported(row: StoredAnswer, mass_floor: float) -> dict[str, Any]:
    used = usage(row)
    return {
        "prompt": row.prompt,
        "completion": row.completion,
        **_judged(row, mass_floor),
        "served_model": row.served_model,
        "usage": asdict(used) if used else None,
        "attempts": row.attempts,
        "answered_at": date(row.answered_at),
        "judge": row.judge,
        "key": row.key,
    }


def _judged(row: StoredAnswer, mass_floor: float) -> dict[str, Any]:
    verdict = reread(row, mass_floor)
    if verdict is None:  # what a judge wrote down before its answer
        return {"verdict": "notes", "reason": "", "provenance": "reasoning", "reward": None, "distribution": None}
    return {
        "verdict": verdict.status,
        "reason": verdict.reason,
        "provenance": verdict.provenance,
        "reward": verdict.reward,
        "distribution": asdict(verdict.distribution) if verdict.distribution else None,
    }


def _judge_of(place: Place) -> Settings | None:
    """Read the judge of a run; None of a ledger that lies alone."""
    if "://" not in str(place) and not Path(place).is_dir():
        return None
    folder = layout(place)(place)
    if not folder.is_run():
        return None
    return parse_judge(folder.config_yaml(), where=f"{folder.path}/config.yaml")


def _floor(place: Place, given: float | None) -> float:
    if given is not None and not 0 <= given <= 1:
        raise SettingError(f"--mass-floor {given:g}: expected a share from 0 to 1")
    judge = _judge_of(place) if given is None else None
    return given if given is not None else (judge or Judging()).mass_floor


def _completions(place: Place, faults: list[str]) -> Iterator[Mapping[str, Any]]:
    """Read a run's completions one by one; a whole line that is none is a fault."""
    if "://" in str(place):
        yield from layout(place)(place).read("completions")
        return
    path = Path(place) / "completions.jsonl"
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.endswith("\n") else None
            except ValueError as fault:
                faults.append(f"{path}, line {number}: damaged: {fault}")
                continue
            if isinstance(row, dict) and row.keys() >= _LOGGED:
                yield row
            elif row is not None:
                faults.append(f"{path}, line {number}: damaged: no row of a judged completion")
