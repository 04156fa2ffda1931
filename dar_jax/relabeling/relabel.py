"""Score a file of completions with the judge of a config.

The answers lie in a ledger beside the output before they are used: starting again pays for the rest alone. The output
appears at the end, whole.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from dar_jax.data.completions import read_completions
from dar_jax.errors import DarError, Interrupted, SettingError
from dar_jax.judging import Judge, Pending, check_budget, check_failures
from dar_jax.judging.money.forecast import Forecast, forecast
from dar_jax.judging.money.prices import dollars, each_reward
from dar_jax.judging.money.spent import BYTES_PER_TOKEN, estimates
from dar_jax.judging.questions.thoughts import is_unfinished
from dar_jax.judging.section import Settings
from dar_jax.records import Verdict
from dar_jax.relabeling.batch_jobs import batchable
from dar_jax.relabeling.batched_judge import open_batched
from dar_jax.relabeling.judged_rows import JudgedRow, count_rows, to_line
from dar_jax.runlog.new_file import new_file, refuse_taken
from dar_jax.terminal.console import Console
from dar_jax.terminal.interrupts import Interrupts

# Chunks under way at once, of as many rows as the judge is asked at once: it never waits for the slowest of a chunk.
_CHUNKS = 4
_TOLD_EVERY_S = 0.25
# So many failures in a row, or four chunks if that is more, and the judge is asked no further.
_BARREN = 32
# Answers billed before the estimate of the start is corrected.
_ESTIMATE_BY = 32


def relabel(
    settings: Settings, given: Path, output: Path, ledger: Path | None, console: Console, *, batch: bool = False
) -> None:
    """Judge every row of `given`, write the rows with their verdicts to the new file `output`, say what came of it.
    `batch` asks all at once and waits, up to a day.

    Raises SettingError where a file cannot be used, JudgeStopped where too many judgements failed, BudgetSpent where
    the judge may cost no more, Interrupted at a signal; then there is no output, and the ledger holds what was paid.
    """
    refuse_taken(output)
    if settings.labels == "preference":
        raise SettingError(
            "judge.labels: preference compares a prompt's completions, and the rows of a file are scored one by one;"
            " set judge.labels=reward"
        )
    ledger = ledger or output.with_name(f"{output.name}.ledger.sqlite")
    size, interrupts = count_rows(given), Interrupts()
    total = size.rows
    opened = functools.partial(_by_batch, settings, given, console, interrupts) if batch else settings.open
    with interrupts.caught(), new_file(output) as scratch, opened(ledger) as judge:
        console.note(f"{total:,} completions; judge: {judge.describe()}; ledger: {ledger}")
        for remark in judge.remarks:
            console.warn(remark)
        about = None
        if not batch:
            prompt, completion = (each / total / BYTES_PER_TOKEN for each in (size.prompts, size.completions))
            about = forecast(settings, total, prompt_tokens=prompt, completion_tokens=completion)
            console.note(f"about, less what the ledger holds: {about.describe()} at 2 s a call")
        work = _Work(judge, interrupts, settings.max_failure_share, total, console, about)
        try:
            with scratch.open("wb") as file, console.counting("judged", total) as tell:
                work.run(read_completions(given), _size(settings), file, tell)
        except SettingError:
            raise
        except DarError as stop:
            kept = f"no output was written; the answers are kept in {ledger}: the same command goes on from there"
            stop.args = (f"{stop}\n  {kept}",)
            raise
        said = work.summary()
    console.note(f"{output}: {said}")


def _by_batch(settings: Settings, given: Path, console: Console, interrupts: Interrupts, ledger: Path) -> Judge:
    """Ask all questions by batch; open a judge of the answers."""
    completions = (completion for _, completion in read_completions(given))

    def signal() -> str:
        return interrupts.received.name if interrupts.received else ""

    return open_batched(batchable(settings), completions, ledger, console.note, signal)


class _Work:
    """A file on its way through the judge."""

    def __init__(
        self,
        judge: Judge,
        interrupts: Interrupts,
        share: float,
        total: int,
        console: Console,
        about: Forecast | None,
    ) -> None:
        self._judge, self._interrupts, self._share, self._total = judge, interrupts, share, total
        self._console, self._about = console, about
        # One verdict stands for all that are like it: millions of rows are as many pointers.
        self._alike: dict[tuple[str, str, bool], Verdict] = {}
        self._verdicts: list[Verdict] = []
        self._barren: list[Verdict] = []
        self._under_way: deque[tuple[list[JudgedRow], Pending]] = deque()
        self._failed = 0
        self._rewards, self._bought = 0.0, 0

    def run(self, rows: Iterator[JudgedRow], size: int, file: BinaryIO, tell: Callable[[int, str], None]) -> None:
        """Judge the rows, `size` a chunk, and write them in their order. Raises what `relabel` does."""
        self._tell, self._barren_at = tell, max(_BARREN, _CHUNKS * size)
        for chunk, verdicts in self._judged(rows, size):
            check_budget(verdicts, self._judge.spent_before + self._judge.spent, self._judge.price)
            for row, verdict in zip(chunk, verdicts, strict=True):
                file.write(to_line(row, verdict))
                self._count(verdict)
            self._say()
        if len(self._verdicts) != self._total:
            raise SettingError("--input: its rows changed meanwhile; name a file that nobody writes, and start again")
        check_failures(self._verdicts, self._share, self._judge.describe())

    def summary(self) -> str:
        """Return what came of the rows and what it cost."""
        totals, counts = self._judge.totals, Counter(verdict.status for verdict in self._verdicts)
        mean = f", mean reward {self._rewards / counts['ok']:.3f}" if counts["ok"] else ""
        by_status = ", ".join(f"{status} {count:,}" for status, count in counts.most_common())
        return (
            f"{len(self._verdicts):,} rows ({by_status}){mean};"
            f" {totals.annotations:,} answers billed, {dollars(totals.cost_usd)}{estimates(totals.estimated)}"
            f"{each_reward(totals.cost_usd, self._bought)};"
            f" {totals.ledger_hits:,} from the ledger, {totals.rules:,} by rule"
        )

    def _judged(self, rows: Iterator[JudgedRow], size: int) -> Iterator[tuple[list[JudgedRow], list[Verdict]]]:
        under_way = self._under_way
        while chunk := list(islice(rows, size)):
            under_way.append((chunk, self._judge.submit([completion for _, completion in chunk])))
            if len(under_way) == _CHUNKS:
                yield self._first()
        while under_way:
            yield self._first()

    def _first(self) -> tuple[list[JudgedRow], list[Verdict]]:
        while not self._under_way[0][1].ready(_TOLD_EVERY_S):
            self._say()
        chunk, pending = self._under_way.popleft()
        return chunk, pending.result()

    def _say(self) -> None:
        done = len(self._verdicts)
        if signal := self._interrupts.received:
            raise Interrupted(f"{signal.name} received; {done:,} of {self._total:,} rows were judged")
        learnt = self._judge.lowered_per_minute
        pace = "" if learnt is None else f"  slowed to {learnt:,.0f}/min"
        for notice in self._judge.notices():
            self._console.warn(notice)
        self._estimate_rest(done)
        self._tell(done, f"{dollars(self._judge.totals.cost_usd)}  {self._failed:,} failed{pace}")

    def _estimate_rest(self, done: int) -> None:
        """Correct the estimate of the start, once, by the first answers billed."""
        totals, left = self._judge.totals, self._total - done
        if self._about is None or not left or totals.annotations < _ESTIMATE_BY or totals.cost_usd == 0:
            return
        cost, tokens = totals.cost_usd, totals.usage.input_tokens / totals.annotations
        calls = self._about.calls / self._total * left
        rest = dollars(None if cost is None else cost / totals.annotations * calls)
        self._console.note(
            f"by the first {totals.annotations:,} answers, {tokens:,.0f} tokens in each: about {rest} for {left:,} rows"
        )
        self._about = None

    def _count(self, verdict: Verdict) -> None:
        ok, rule = verdict.status == "ok", verdict.provenance == "rule"
        like = (verdict.status, "" if ok else verdict.reason, rule)
        self._verdicts.append(self._alike.setdefault(like, verdict))
        self._rewards += verdict.reward or 0.0
        self._bought += ok and not rule and not verdict.from_ledger
        if ok or is_unfinished(verdict):
            # A verdict by rule does not show that the judge answers.
            self._barren = self._barren if rule else []
            return
        self._failed += 1
        self._barren.append(verdict)
        if self._failed > self._share * self._total:
            check_failures(self._verdicts, self._share, self._judge.describe())
        if len(self._barren) >= self._barren_at:
            check_failures(self._barren, self._share, self._judge.describe())
            self._barren = []


def _size(settings: Settings) -> int:
    """Return the number of rows to submit at once, which must be answered within a batch's deadline."""
    rate = settings.requests_per_minute
    in_time = rate * settings.batch_deadline_s / 60 / 2 / _CHUNKS if rate else settings.concurrency
    return max(1, min(settings.concurrency, int(in_time)))
