"""The spine. One step of a run, top to bottom:

    sample -> judge -> weigh -> regress

`train` builds a run from its settings, `resume` goes on with one; `Run.steps` is the loop, `Run.gather` the first three
verbs, `Run.learn` the last. For an algorithm that needs no judge, recorded completions take the place of sampled ones.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dar_jax import hosts, opening, parallel
from dar_jax.batches import Batch, Rollouts
from dar_jax.checkpoints import RunState
from dar_jax.config import RunConfig
from dar_jax.config_file import to_yaml
from dar_jax.console import Console
from dar_jax.errors import BudgetSpent, Interrupted, JudgeStopped, SettingError
from dar_jax.evaluation import compare
from dar_jax.held_out import HeldOut
from dar_jax.interrupts import Interrupts
from dar_jax.judging import Judge, Pending, Spent, canary_alarm, canary_metrics, check_budget, check_failures
from dar_jax.learner import State
from dar_jax.models import Params
from dar_jax.parallel import to_host, whole
from dar_jax.records import Completion, Prompt, Verdict
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
from dar_jax.sampling import rewards
from dar_jax.session import Purpose, Session, checksum, open_session
from dar_jax.timeline import Timeline


@dataclass
class Progress:
    """Where a run is: whole steps done, updates done of the step under way, what that step measured; whether the last
    whole step is still to be evaluated; what the algorithm carries.
    """

    step: int = 0
    update: int = 0
    measured: dict[str, Any] = field(default_factory=dict)
    updates: list[dict[str, float]] = field(default_factory=list)
    start_checksum: int = 0
    evaluation_due: bool = False
    memory: dict[str, float] = field(default_factory=dict)


class Asked(NamedTuple):
    """Completions of this host, by their numbers among all rows, with the judge."""

    words: dict[int, Completion]
    pending: Pending


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
        judge, evaluator = stack.enter_context(opening.judges(config, folder))
        stack.callback(console.finish)
        if judge:
            console.note(f"judge: {judge.describe()}")
        console.note(f"run folder: {folder.path}; the first step compiles its programs and takes longest")
        yield Run(session, folder, console, saved, (judge, evaluator), start)


class Run:
    """A run under way: the state that changes, and the verbs that change it."""

    def __init__(
        self,
        session: Session,
        folder: RunFolder | RemoteFolder,
        console: Console,
        saved: RunState,
        judges: tuple[Judge | None, Judge | None],
        start: Params,
    ) -> None:
        self.session, self.config, self.learner = session, session.config, session.learner
        self.folder, self.console, self.saved, (self.judge, self.evaluator) = folder, console, saved, judges
        self.interrupts = Interrupts()
        self.sampler = session.sampler()
        self.held_out = HeldOut(session) if self.config.evaluation else None
        needed = "reference" in self.config.algorithm.needs or self.config.evaluation
        self.reference = self.learner.reference(start, self.config.reference.placement) if needed else None
        self.progress = Progress(start_checksum=checksum(start), memory=self.config.algorithm.begin())
        self.batch: Batch | None = None
        self.state: State = self.learner.init(start)
        self.timeline = Timeline()

    def steps(self) -> None:
        """Run the steps that are left. However it ends, a checkpoint lets it go on."""
        if self.judge:
            opening.foretell(self.config, self.judge, self.config.steps - self.progress.step, self.console)
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
        self.timeline.begin()
        if self.batch is None:
            self.batch = self.gather()
        self.learn(self.batch)
        self.batch = None
        memory = self.config.algorithm.learnt(self.progress.memory, self.report())
        done, last = self.progress.step + 1, self.config.steps
        due = self.config.evaluation is not None and self.config.evaluation.due(done, last)
        start = self.progress.start_checksum
        self.progress = Progress(step=done, start_checksum=start, evaluation_due=due, memory=memory)
        self.evaluate_if_due()
        if done % self.config.checkpoints.every_steps == 0 or done == last:
            self.save()
        self.leave_if_asked()

    def gather(self) -> Batch:
        """Sample, judge, weigh: from pi_t to what pi_theta shall learn."""
        config, session, step = self.config, self.session, self.progress.step
        prompts = session.prompts.at(step * config.prompts_per_step, config.prompts_per_step)
        if not config.online:
            rollouts = self.learner.recall(self.state, self.reference, session.demonstrations(prompts))
            batch, metrics = self.learner.weigh(rollouts, None)
            self.progress.measured = _floats(metrics)
            return batch
        spoken, asked = self._sample(prompts)
        canaries = self._ask_canaries()
        with self.timeline.timed("recall"):
            rollouts = self.learner.recall(self.state, self.reference, parallel.joined(spoken, session.mesh))
            jax.block_until_ready(rollouts)
        with self.timeline.timed("judge_wait"):
            pending = [each.pending for each in (*asked, *canaries)]
            while not all(hosts.gather("judge ready", all(each.ready(within_s=0.5) for each in pending), bool)):
                self.leave_if_asked()
            verdicts, of_canaries = _everyones(asked), _everyones(canaries) if canaries else []
        paid = self._paid([*verdicts, *of_canaries], self._judge)
        paces = hosts.gather("paces", self._judge.learnt_per_minute or 0.0, float)
        check_failures(verdicts, self._judge.max_failure_share, self._judge.describe())
        with self.timeline.timed("weigh"):
            batch, metrics = self.learner.weigh(
                rollouts, rewards(verdicts, config.group_size, session.mesh), self.progress.memory
            )
            columns = whole({name: metrics.pop(f"completion/{name}") for name in ("advantage", "weight")}, session.mesh)
            judged = judge_metrics(verdicts, of_canaries, paces) | canary_metrics(of_canaries) | paid
            self.progress.measured = _floats(metrics) | judged
        for each in asked:
            self.timeline.beside("judge", each.pending.began, each.pending.ended)
        self._log_completions(_united(asked), verdicts, columns)
        return batch

    def _sample(self, prompts: Sequence[Prompt]) -> tuple[list[Rollouts], list[Asked]]:
        """Sample chunk by chunk, and give the judge each as it comes."""
        config, session = self.config, self.session
        key = session.key(Purpose.SAMPLES, self.progress.step)
        spoken, asked = [], []
        with self.timeline.timed("sample"):
            # The copy to sample from stays unnamed, so that it goes as soon as it has been sampled from.
            for rollouts, words in session.sample_in_chunks(
                self.sampler,
                self._decoding(),
                prompts,
                config.group_size,
                key,
                config.sampling.chunks,
            ):
                spoken.append(rollouts)
                asked.append(Asked(words, self._judge.submit(list(words.values()))))
        return spoken, asked

    def _ask_canaries(self) -> list[Asked]:
        """Have the first host ask about what is due of them at this step; nothing on any host where none is."""
        due = self.config.judge.canaries(self.progress.step) if self.config.judge else []
        own = due if hosts.is_first() else []
        return [Asked(dict(enumerate(own)), self._judge.submit(own))] if due else []

    def learn(self, batch: Batch) -> None:
        """Regress: the updates of one batch, its weights fixed, only pi_theta moving."""
        key = self.session.key(Purpose.MINIBATCHES, self.progress.step)
        pending: list[Any] = []
        with self.timeline.timed("regress"):
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

    def report(self) -> dict[str, Any]:
        """Log the step and show its line; return what it measured."""
        measured, seconds = self.progress.measured, self.timeline.seconds()
        metrics = {**measured, **averaged(self.progress.updates), **speed(seconds, measured, self.config.rows_per_step)}
        step, total = self.progress.step + 1, self.config.steps
        self._write("metrics", [{"step": step, **metrics}])
        self._write("timeline", self.timeline.rows(step))
        self.console.step(step, total, shown(metrics), metrics)
        for warning in [*warnings(metrics), *(canary_alarm(metrics, self.config.judge) if self.config.judge else [])]:
            self.console.warn(f"step {step}: {warning}")
        return metrics

    def evaluate_if_due(self) -> None:
        """Evaluate the last whole step where that is to be done, also if a budget ended an earlier try."""
        if self.progress.evaluation_due and self.config.evaluation:
            self.evaluate(self.progress.step)
        self.progress.evaluation_due = False

    def evaluate(self, step: int) -> None:
        """Have the judge compare the policy with its start on held-out prompts."""
        held_out, judge = self.held_out, self.evaluator
        assert held_out is not None
        assert judge is not None
        said = held_out.completions(self._decoding, self._decoding_start)
        # Together: a judge that compares is to compare the two.
        asked = Asked(said, judge.submit(list(said.values())))
        length = hosts.union("lengths", {row: completion.token_count for row, completion in said.items()}, int)
        verdicts, half = _everyones([asked]), len(held_out.prompts)
        self._paid(verdicts, judge)
        outcome = compare(length[:half], verdicts[:half], length[half:], verdicts[half:])
        self._write("evaluations", [{"step": step, **outcome.metrics()}])
        self.console.note(outcome.describe(), step=step, **outcome.metrics())

    def _decoding(self) -> Params:
        return self.learner.decode_params(self.state)

    def _decoding_start(self) -> Params:
        assert self.reference is not None
        return self.learner.decode_reference(self.reference)

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

    @property
    def _judge(self) -> Judge:
        assert self.judge is not None
        return self.judge

    def _paid(self, verdicts: list[Verdict], judge: Judge) -> dict[str, float]:
        """Name what the run has paid this judge so far, on all hosts. Raises BudgetSpent where that kept a question
        from being asked.
        """
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


def _united(asked: Sequence[Asked]) -> dict[int, Completion]:
    return {row: completion for each in asked for row, completion in each.words.items()}


def _everyones(asked: Sequence[Asked]) -> list[Verdict]:
    """Wait for the verdicts on this host's completions; return those of all hosts, in row order."""
    with hosts.together("verdicts"):
        verdicts = [verdict for each in asked for verdict in each.pending.result()]
    return hosts.union("verdicts", dict(zip(_united(asked), verdicts, strict=True)), Verdict)


def _floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    return {key: float(value) for key, value in to_host(metrics).items()}


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
