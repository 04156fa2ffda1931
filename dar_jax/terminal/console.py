"""The console of a run: a progress bar, a line a step, sample completions, and what to do next.

Modes: `rich` (a terminal), `plain` (lines, for a log file), `json` (one JSON object a line on standard output),
`quiet` (warnings alone); `auto` takes rich on a terminal and plain elsewhere.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass as record
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from rich.console import Console as Rich
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

from dar_jax.settings.fields import STRICT, Count, CountOrZero
from dar_jax.terminal.json_text import json_text
from dar_jax.terminal.screen import tolerant
from dar_jax.terminal.visible import visible

# Of a long work, where no bar can be shown.
_LINE_EVERY_S = 30.0
# A field, since Rich would take braces in the text for a format.
_WHAT = TextColumn("{task.fields[what]}")

Mode = Literal["auto", "rich", "plain", "json", "quiet"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Display:
    """Console output; every `samples_every` steps it shows `samples` completions (0: never)."""

    mode: Mode = "auto"
    samples_every: CountOrZero = 10
    samples: Count = 3


@record(frozen=True, kw_only=True)
class Sample:
    """A completion to print, with its reward and weight."""

    prompt: str
    completion: str
    reward: float | None
    weight: float


class Console:
    """Print to a terminal or a log in one of the modes.

    Control characters in texts are escaped. If the reader of the output leaves, the console becomes silent.
    """

    def __init__(self, mode: Mode, file: Any = None) -> None:
        file = tolerant(file or sys.stdout)
        self.mode = ("rich" if file.isatty() else "plain") if mode == "auto" else mode
        self._rich = Rich(file=file, highlight=False, emoji=False, soft_wrap=self.mode != "rich")
        self._progress: Progress | None = None
        self._task: Any = None

    def note(self, text: str, **values: Any) -> None:
        """Print a line; in JSON mode an object {"note": text, ...values}."""
        if self.mode == "json":
            self._emit({"note": text, **values})
        elif self.mode != "quiet":
            self._print(escape(text))

    def warn(self, text: str) -> None:
        """Print a line in every mode."""
        if self.mode == "json":
            self._emit({"warning": text})
        else:
            self._print(f"[yellow]warning:[/] {escape(text)}")

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a callback of (bytes read, total) that shows progress: a bar on a terminal, else a line at the end."""
        columns = (TextColumn("reading"), _WHAT, BarColumn(), DownloadColumn(), Remaining())
        began, total = time.perf_counter(), 0
        with Progress(*columns, console=self._rich, transient=True, disable=self.mode != "rich") as bar:
            task = bar.add_task("", total=None, what=_markup(what))

            def tell(done: int, of: int) -> None:
                nonlocal total
                total = of
                bar.update(task, completed=done, total=of)

            yield tell
        seconds = time.perf_counter() - began
        self.note(f"read {what}: {total / 1e6:,.0f} MB in {seconds:.1f} s", megabytes=total / 1e6, seconds=seconds)

    @contextlib.contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """Yield a callback of (done, remark) that shows progress towards `total`: a bar on a terminal, else a line now
        and then.
        """
        said = (TextColumn("{task.fields[said]}"), TextColumn("left"), Remaining())
        columns = (_WHAT, MofNCompleteColumn(), BarColumn(), *said)
        began = said_at = time.perf_counter()
        with Progress(*columns, console=self._rich, disable=self.mode != "rich") as bar:
            task = bar.add_task("", total=total, said="", what=_markup(what))

            def tell(done: int, more: str) -> None:
                nonlocal said_at
                now = time.perf_counter()
                rate = done / max(now - began, 1e-9)
                bar.update(task, completed=done, said=_markup(f"{rate:,.1f}/s  {more}"))
                if self.mode != "rich" and now - said_at >= _LINE_EVERY_S:
                    said_at = now
                    left = f"{(total - done) / rate / 60:,.0f} min left" if rate else "no end in sight"
                    line = f"{what} {done:,}/{total:,}  {rate:,.1f}/s  {more}  {left}"
                    self.note(line, done=done, total=total, per_second=rate)

            yield tell

    def start(self, total: int, done: int) -> None:
        """Open the progress bar at `done` of `total` steps."""
        if self.mode == "rich":
            columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, TextColumn("left"), Remaining(), console=self._rich)
            self._task = self._progress.add_task("steps", total=total, completed=done)
            self._progress.start()

    def step(self, step: int, total: int, shown: Mapping[str, str], metrics: Mapping[str, Any]) -> None:
        """Report a finished step: `shown` on one line, all `metrics` in JSON mode."""
        if self.mode == "json":
            self._emit({"step": step, **metrics})
        elif self.mode != "quiet":
            values = "  ".join(f"[dim]{escape(key)}[/] {value}" for key, value in shown.items())
            self._print(f"[bold]{step:>{len(str(total))}}/{total}[/]  {values}")
        if self._progress:
            self._progress.update(self._task, completed=step)

    def samples(self, title: str, samples: Sequence[Sample]) -> None:
        """Print a table of completions with their rewards and weights."""
        if self.mode in ("json", "quiet"):
            return
        if self.mode == "plain":
            for each in samples:
                score = f"{_number(each.reward)} w={each.weight:.2f}"
                self._print(escape(f"    {score}  {_short(each.prompt, 60)} -> {_short(each.completion, 160)}"))
            return
        table = Table("prompt", "completion", "reward", "weight", title=_markup(title), title_justify="left")
        for each in samples:
            cells = (_short(each.prompt, 160), _short(each.completion, 240))
            table.add_row(*map(_markup, cells), _number(each.reward), f"{each.weight:.2f}")
        self._rich.print(table)

    def finish(self) -> None:
        """Close the progress bar."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _print(self, markup: str) -> None:
        self._rich.print(visible(markup))

    def _emit(self, values: Mapping[str, Any]) -> None:
        self._rich.file.write(json_text(values) + "\n")
        self._rich.file.flush()


def _markup(text: str) -> str:
    return escape(visible(text))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _short(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
