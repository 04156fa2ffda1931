"""Measure judges against people on labelled pairs: AI reward and AI preference, side by side.

Each judge has a ledger for each of its label modes in the output folder: the same command pays for nothing twice.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from dar_jax.data.preference_pairs import Pair
from dar_jax.errors import Interrupted, SettingError
from dar_jax.evaluation.agreement import Agreement, agreement, opinion
from dar_jax.judging import Judge, PanelJudge, check_budget, check_failures
from dar_jax.judging.money.forecast import Forecast, forecast
from dar_jax.judging.money.prices import dollars
from dar_jax.judging.money.spent import BYTES_PER_TOKEN
from dar_jax.judging.section import Settings
from dar_jax.records import Verdict
from dar_jax.runlog.new_file import output_folder
from dar_jax.terminal.console import Console
from dar_jax.terminal.interrupts import Interrupts
from dar_jax.terminal.json_text import plain

Labels = Literal["reward", "preference"]
LABELS: tuple[Labels, ...] = get_args(Labels)
_TOLD_EVERY_S = 0.25


@dataclass(frozen=True, kw_only=True)
class ModeAgreement:
    """A judge in one label mode: what it was called, how far it agrees, what its answers cost, whenever bought."""

    name: str
    labels: Labels
    judge: str
    agreement: Agreement
    annotations: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None

    @property
    def cost_per_label_usd(self) -> float | None:
        """US dollars a judged pair; None where the price is unknown or nothing was judged."""
        judged = self.agreement.judged
        return None if self.cost_usd is None or not judged else self.cost_usd / judged

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON has it; what is no number is null."""
        found: dict[str, Any] = plain(asdict(self) | {"cost_per_label_usd": self.cost_per_label_usd})
        return found


def measure(
    judges: Sequence[tuple[str, Settings]],
    modes: Sequence[Labels],
    pairs: Sequence[Pair],
    folder: Path,
    console: Console,
) -> list[ModeAgreement]:
    """Ask every judge for its labels of all pairs, in each of the modes; keep the answers in the folder.

    Raises SettingError where a judge cannot label so, JudgeStopped where too many judgements failed, BudgetSpent where
    one may cost no more, Interrupted at a signal; the same command goes on.
    """
    asked = [(name, labels, with_labels(settings, labels)) for name, settings in judges for labels in modes]
    output_folder(folder)
    interrupts = Interrupts()
    with interrupts.caught():
        return [
            _measured(name, labels, settings, pairs, folder, console, interrupts) for name, labels, settings in asked
        ]


def with_labels(settings: Settings, labels: Labels) -> Settings:
    """Set what a judge is to give. Raises SettingError where it cannot."""
    try:
        if isinstance(settings, PanelJudge):
            return dataclasses.replace(
                settings, judges=tuple(dataclasses.replace(each, labels=labels) for each in settings.judges)
            )
        return dataclasses.replace(settings, labels=labels)
    except ValidationError as fault:
        reason = fault.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingError(f"judge: {reason}; or measure one of them, by --labels reward or preference") from None


def write(found: Sequence[ModeAgreement], folder: Path) -> Path:
    """Write what was measured as JSON; return the file."""
    file = folder / "agreement.json"
    file.write_text(json.dumps([each.to_plain() for each in found], indent=1) + "\n")
    return file


def _measured(
    name: str,
    labels: Labels,
    settings: Settings,
    pairs: Sequence[Pair],
    folder: Path,
    console: Console,
    interrupts: Interrupts,
) -> ModeAgreement:
    with settings.open(folder / f"{name}-{labels}.ledger.sqlite") as judge:
        console.note(f"{name}: {judge.describe()}; {len(pairs):,} pairs, by {labels}")
        for remark in judge.remarks:
            console.warn(remark)
        console.note(
            f"{name}, about, less what the ledger holds: {_forecast(settings, pairs).describe()} at 2 s a call"
        )
        verdicts = _judged(judge, settings, pairs, f"{name}, {labels}", console, interrupts)
        spent = judge.spent_before + judge.spent
        cost, describe = spent.usd(judge.price), judge.describe()
    opinions = [
        opinion(chosen, rejected, (len(pair.chosen.text), len(pair.rejected.text)))
        for pair, chosen, rejected in zip(pairs, verdicts[::2], verdicts[1::2], strict=True)
    ]
    return ModeAgreement(
        name=name,
        labels=labels,
        judge=describe,
        agreement=agreement(opinions),
        annotations=spent.annotations,
        input_tokens=spent.usage.input_tokens,
        output_tokens=spent.usage.output_tokens,
        cost_usd=cost,
    )


def _forecast(settings: Settings, pairs: Sequence[Pair]) -> Forecast:
    """Estimate both completions of every pair."""
    sizes = (
        [_bytes(pair.chosen.prompt.text) for pair in pairs],
        [_bytes(each.text) for pair in pairs for each in (pair.chosen, pair.rejected)],
    )
    prompt, completion = (sum(each) / max(1, len(each)) / BYTES_PER_TOKEN for each in sizes)
    return forecast(settings, 2 * len(pairs), prompt_tokens=prompt, completion_tokens=completion, group_size=2)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _judged(
    judge: Judge, settings: Settings, pairs: Sequence[Pair], what: str, console: Console, interrupts: Interrupts
) -> list[Verdict]:
    """Judge both completions of every pair, some pairs at a time; in the order given."""
    size, verdicts = 4 * settings.concurrency, list[Verdict]()
    with console.counting(what, len(pairs)) as tell:
        for start in range(0, len(pairs), size):
            some = pairs[start : start + size]
            pending = judge.submit([each for pair in some for each in (pair.chosen, pair.rejected)])
            while not pending.ready(_TOLD_EVERY_S):
                if signal := interrupts.received:
                    raise Interrupted(f"{signal.name} received; the answers so far are kept, the same command goes on")
            verdicts += pending.result()
            check_budget(verdicts, judge.spent_before + judge.spent, judge.price)
            for notice in judge.notices():
                console.warn(notice)
            totals = judge.totals
            tell(start + len(some), f"{dollars(totals.cost_usd)}  {sum(totals.failures.values()):,} failed")
    check_failures(verdicts, judge.max_failure_share, judge.describe())
    return verdicts
