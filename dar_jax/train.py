"""The spine. One step of a run, top to bottom:

    sample -> judge -> weigh -> regress

`train` builds a run from its settings, `resume` goes on with one; `Run.steps` is the loop, `Run.gather` the first three
verbs, `Run.learn` the last. For an algorithm that needs no judge, recorded completions take the place of sampled ones.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dar_jax import hosts, opening
from dar_jax.batches import Batch
from dar_jax.checkpoints import RunState
from dar_jax.config import RunConfig
from dar_jax.config_file import to_yaml
from dar_jax.console import Console
from dar_jax.errors import BudgetSpent, Interrupted, JudgeStopped, SettingError
from dar_jax.evaluation import compare
from dar_jax.interrupts import Interrupts
from dar_jax.judging import Judge, Pending, Spent, canary_alarm, canary_metrics, check_budget, check_failures
from dar_jax.learner import State
from dar_jax.models import Params
from dar_jax.parallel import to_host, whole
from dar_jax.records import Completion, Verdict
from dar_jax.reporting import (
    averaged,
    closing,
    completion_rows,
    judge_metrics,
    samples,
    shown,
    speed,
    spent_metrics,
    warnings,
)
from dar_jax.runlog import RemoteFolder, RunFolder
from dar_jax.sampling import own_completions, rewards
from dar_jax.session import Purpose, Session, checksum, open_session


@dataclass
class Progress:
    """Where a run is: whole steps done, updates done of the step under way, what that step measured; whether the last
    whole step is still to be evaluated.
    """

    step: int = 0
    update: int = 0
    measured: dict[str, Any] = field(default_factory=dict)
    updates: list[dict[str, float]] = field(default_factory=list)
    start_checksum: int = 0
    evaluation_due: bool = False


def train(config: RunConfig, run_dir: Path | str) -> None:
    """Run from the start in a new folder, or under a new URL."""
    opening.check(run_dir)
    console = opening.console(config)
    session = open_session(config, console)
    with jax.set_mesh(session.mesh):
        start = session.start_params(console)
        folder = opening.create(session, run_dir)
        with _open(session, folder, console, start) as run:
            run.save()  # from here on a resume goes on, and what its ledger holds is free
            run.steps()


def resume(run_dir: Path | str, overrides: Sequence[str]) -> None:
    """Go on from the newest checkpoint of a run folder, as if it had never stopped.

    Raises SettingError where there is nothing to go on with, or where an override would change the maths.
    """
    folder, config = opening.reopen(run_dir, overrides)
    console = opening.console(config)
    session = open_session(config, console)
    with jax.set_mesh(session.mesh), _open(session, folder, console, session.start_params(console)) as run:
        run.restore()
        if hosts.is_first():
            folder.write_config(to_yaml(config))
        run.steps()


@contextlib.contextmanager
def _open(session: Session, folder: RunFolder | RemoteFolder, console: Console, start: Params) -> Iterator["Run"]:
    config = session.config
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(RunState(folder.checkpoints, config.checkpoints.keep))
        judge = stack.enter_context(opening.judge(config.judge, folder)) if config.judge else None
        stack.callback(console.finish)
        if judge:
            console.note(f"judge: {judge.describe()}")
        console.note(f"run folder: {folder.path}; the first step compiles its programs and takes longest")
        yield Run(session, folder, console, saved, judge, start)


class Run:
    """A run under way: the state that changes, and the verbs that change it."""

    def __init__(
        self,
        session: Session,
        folder: RunFolder | RemoteFolder,
        console: Console,
        saved: RunState,
        judge: Judge | None,
        start: Params,
    ) -> None:
        self.session, self.config, self.learner = session, session.config, session.learner
        self.folder, self.console, self.saved, self.judge = folder, console, saved, judge
        self.interrupts = Interrupts()
        self.sampler = session.sampler()
        needed = "reference" in self.config.algorithm.needs or self.config.evaluation
        self.reference = self.learner.reference(start, self.config.reference.placement) if needed else None
        self.progress = Progress(start_checksum=checksum(start))
        self.batch: Batch | None = None
        self.state: State = self.learner.init(start)
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def steps(self) -> None:
        """Run the steps that are left. However it ends, a checkpoint lets it go on."""
        self.console.start(self.config.steps, self.progress.step)
        try:
            # A judge's thread that ran a program of several hosts would run it in an order of its own.
            with self.interrupts.caught(), jax.thread_guard(True):
                self.evaluate_if_due()
                while self.progress.step < self.config.steps:
                    self.step()
        except JudgeStopped as stop:
            self.save()
            raise JudgeStopped(f"{stop}\n{self._saved_where()}") from None
        except BudgetSpent as stop:
            self.save()
            raise BudgetSpent(f"{stop}\n{self._saved_where(f' {stop.setting}=...')}") from None
        self.console.finish()
        if hosts.is_first():
            for line in closing(str(self.folder.path), self.folder.contents(), self.folder.read("metrics")):
                self.console.note(line)

    def step(self) -> None:
        """Make one step, or what a resume has left of it."""
        began = time.perf_counter()
        if self.batch is None:
            self.batch = self.gather()
        self.learn(self.batch)
        self.batch = None
        self.seconds["step"] += time.perf_counter() - began
        self.report()
        done, last = self.progress.step + 1, self.config.steps
        due = self.config.evaluation is not None and self.config.evaluation.due(done, last)
        self.progress = Progress(step=done, start_checksum=self.progress.start_checksum, evaluation_due=due)
        self.evaluate_if_due()
        if done % self.config.checkpoints.every_steps == 0 or done == last:
            self.save()
        self.leave_if_asked()

    def gather(self) -> Batch:
        """Sample, judge, weigh: from pi_t to what pi_theta shall learn."""
        config, session, step = self.config, self.session, self.progress.step
        prompts = session.prompts.at(step * config.prompts_per_step, config.prompts_per_step)
        if not config.online:
            batch, metrics = self.learner.weigh(session.demonstrations(prompts), None)
            self.progress.measured = _floats(metrics)
            return batch
        with self.timed("sample"):
            key = session.key(Purpose.SAMPLES, step)
            # Unnamed, so that the copy to sample from goes as soon as it has been sampled from.
            rollouts = session.sample(
                self.sampler, self.learner.decode_params(self.state), prompts, config.group_size, key
            )
            words = own_completions(rollouts, prompts, session.tokenizer, session.mesh)
        pending = self._judge.submit(list(words.values()))
        canaries = config.judge.canaries(step) if config.judge else []
        asked = range(len(canaries) if hosts.is_first() else 0)
        on_canaries = self._judge.submit([canaries[each] for each in asked])
        with self.timed("recall"):
            rollouts = self.learner.recall(self.state, self.reference, rollouts)
            jax.block_until_ready(rollouts)
        with self.timed("judge_wait"):
            while not all(hosts.gather("judge ready", pending.ready(0.5) and on_canaries.ready(0.5), bool)):
                self.leave_if_asked()
            verdicts = _everyones(words, pending)
            of_canaries = _everyones(asked, on_canaries) if canaries else []
        paid = self._paid([*verdicts, *of_canaries])
        check_failures(verdicts, self._judge.max_failure_share, self._judge.describe())
        with self.timed("weigh"):
            batch, metrics = self.learner.weigh(rollouts, rewards(verdicts, config.group_size, session.mesh))
            columns = whole({name: metrics.pop(f"completion/{name}") for name in ("advantage", "weight")}, session.mesh)
            judged = judge_metrics(verdicts, of_canaries) | canary_metrics(of_canaries) | paid
            self.progress.measured = _floats(metrics) | judged
        self._log_completions(words, verdicts, columns)
        return batch

    def learn(self, batch: Batch) -> None:
        """Regress: the updates of one batch, its weights fixed, only pi_theta moving."""
        key = self.session.key(Purpose.MINIBATCHES, self.progress.step)
        pending: list[Any] = []
        with self.timed("regress"):
            while self.progress.update < self.config.learning.updates_per_batch:
                part = self.learner.part(batch, self.progress.update, key)
                self.state, metrics = self.learner.regress(self.state, part)
                self.progress.update += 1
                pending.append(metrics)
                last = self.progress.update == self.config.learning.updates_per_batch
                if not (self._asked() or last or self.config.checkpoints.within_step):
                    continue
                # Fetching waits for the device, so it happens only where something is to be saved.
                self.progress.updates += map(_floats, pending)
                pending.clear()
                if not last:
                    if self.config.checkpoints.within_step:
                        self.save()
                    self.leave_if_asked()

    def report(self) -> None:
        """Log the step and show its line."""
        measured, seconds = self.progress.measured, dict(self.seconds)
        self.seconds.clear()
        metrics = {**measured, **averaged(self.progress.updates), **speed(seconds, measured, self.config.rows_per_step)}
        step, total = self.progress.step + 1, self.config.steps
        self._write("metrics", [{"step": step, **metrics}])
        self.console.step(step, total, shown(metrics), metrics)
        for warning in [*warnings(metrics), *(canary_alarm(metrics, self.config.judge) if self.config.judge else [])]:
            self.console.warn(f"step {step}: {warning}")

    def evaluate_if_due(self) -> None:
        """Evaluate the last whole step where that is to be done, also if a budget ended an earlier try."""
        if self.progress.evaluation_due and self.config.evaluation:
            self.evaluate(self.progress.step)
        self.progress.evaluation_due = False

    def evaluate(self, step: int) -> None:
        """Have the judge compare the policy with its start on held-out prompts."""
        settings, held_out = self.config.evaluation, self.session.held_out
        assert settings is not None
        assert held_out is not None
        assert self.reference is not None
        prompts = held_out.at(0, min(settings.prompts, len(held_out.ids)))
        sampler = self.session.sampler(settings.temperature)
        key = self.session.key(Purpose.EVALUATION)
        asked = []
        for params in (self.learner.decode_params(self.state), self.learner.decode_reference(self.reference)):
            rollouts = self.session.sample(sampler, params, prompts, 1, key)
            words = own_completions(rollouts, prompts, self.session.tokenizer, self.session.mesh)
            asked.append((words, self._judge.submit(list(words.values()))))
        lengths = [hosts.union("lengths", {row: each.token_count for row, each in w.items()}, int) for w, _ in asked]
        verdicts = [_everyones(words, pending) for words, pending in asked]
        self._paid([verdict for each in verdicts for verdict in each])
        outcome = compare(lengths[0], verdicts[0], lengths[1], verdicts[1])
        self._write("evaluations", [{"step": step, **outcome.metrics()}])
        self.console.note(outcome.describe(), step=step, **outcome.metrics())

    def save(self) -> None:
        """Save what decides the next number, and go on while it is written."""
        with hosts.together("rows are safe"):
            self.folder.flush()  # no resume from this checkpoint makes these rows again
        number = self.progress.step * self.config.learning.updates_per_batch + self.progress.update
        self.saved.save(number, self.state.trees(), asdict(self.progress), self.batch)

    def restore(self) -> None:
        """Take the place of the newest checkpoint, of the start where a run was killed before its first.

        Raises SettingError where it is of another policy, or where checkpoints are lost.
        """
        number = self.saved.latest
        hosts.agree({"newest checkpoint": str(number)})
        if number is None:
            opening.begin_again(self.session, self.folder)
            self.console.note(f"{self.folder.path} ended before its first checkpoint; it begins with the first step")
            self.save()
            return
        abstract = jax.tree.map(_abstract, self.state.trees())
        trees, progress, self.batch = self.saved.load(number, abstract, self.session.mesh)
        start_checksum = self.progress.start_checksum
        self.state, self.progress = State.of(trees, self.state.frozen), Progress(**progress)
        if self.progress.start_checksum != start_checksum:
            raise SettingError(
                f"policy.path: {self.config.policy.path} is not what the run started from (its weights differ);"
                " put the old checkpoint back"
            )
        step, within = self.progress.step, self.progress.update > 0
        if hosts.is_first():
            self.folder.forget_after(step, completions=step + within)
        if self.progress.evaluation_due:  # unless a later start has caught up on it
            logged = hosts.is_first() and any(row["step"] == step for row in self.folder.read("evaluations"))
            self.progress.evaluation_due = not any(hosts.gather("evaluated", logged, bool))
        self.console.note(f"resumed {self.folder.path} after step {step}, update {self.progress.update}")

    def leave_if_asked(self) -> None:
        """Save and raise Interrupted if a signal came, to whichever host: all of them are at this place."""
        if signals := self._asked():
            self.save()
            raise Interrupted(f"{signals}. {self._saved_where()}")

    def _asked(self) -> str:
        received = self.interrupts.received
        said = hosts.gather("signals", received.name if received else "", str)
        of = [f" by {name}" for name in hosts.names()] if len(said) > 1 else [""]
        return ", ".join(f"{signal} received{host}" for signal, host in zip(said, of, strict=True) if signal)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to a phase of the step."""
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began

    @property
    def _judge(self) -> Judge:
        assert self.judge is not None
        return self.judge

    def _paid(self, verdicts: list[Verdict]) -> dict[str, float]:
        """Name what the run has paid its judge so far, on all hosts. Raises BudgetSpent where that kept a question from
        being asked.
        """
        judge = self._judge
        spent = sum(hosts.gather("spent", judge.spent, Spent), judge.spent_before)
        check_budget(verdicts, spent, judge.price)
        return spent_metrics(spent.annotations, spent.usd(judge.price))

    def _log_completions(
        self, words: dict[int, Completion], verdicts: list[Verdict], columns: dict[str, np.ndarray]
    ) -> None:
        step, display, rows = self.progress.step + 1, self.config.display, list(words)
        own = {name: column.reshape(-1)[rows] for name, column in columns.items()}
        made = completion_rows(step, list(words.values()), [verdicts[row] for row in rows], own)
        logged = hosts.union_at_first("completions", dict(zip(rows, made, strict=True)), dict[str, Any])
        self._write("completions", logged)
        if display.samples_every and (step == 1 or step % display.samples_every == 0):
            self.console.samples(f"samples of step {step}", samples(logged, display.samples))

    def _write(self, log: str, rows: list[dict[str, Any]]) -> None:
        if hosts.is_first():
            self.folder.write(log, rows)

    def _saved_where(self, override: str = "") -> str:
        return f"Saved; go on with: dar-jax train --resume {self.folder.path}{override}"


def _everyones(words: Iterable[int], pending: Pending) -> list[Verdict]:
    """Wait for the verdicts on this host's completions; return those of all hosts, in row order."""
    with hosts.together("verdicts"):
        verdicts = pending.result()
    return hosts.union("verdicts", dict(zip(words, verdicts, strict=True)), Verdict)


def _floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    return {key: float(value) for key, value in to_host(metrics).items()}


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
