"""The spine. One step of a run, top to bottom:

    sample -> judge -> weigh -> regress

`train` starts a run, `resume` continues one. `Run.steps` is the loop, `Run.gather` the first three verbs,
`Run.learn` the last. An offline algorithm learns from recorded completions in place of judged samples.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from dar_jax import hosts, parallel
from dar_jax.batches import Batch, Rollouts
from dar_jax.checkpoints import RunState
from dar_jax.config.config_file import to_yaml
from dar_jax.config.run_config import RunConfig
from dar_jax.errors import BudgetSpent, Interrupted, JudgeStopped
from dar_jax.judging import Judge
from dar_jax.parallel import floats, whole
from dar_jax.records import Prompt
from dar_jax.run import opening
from dar_jax.run.build import open_session
from dar_jax.run.finite import FiniteUpdates
from dar_jax.run.held_out import HeldOut
from dar_jax.run.origin import origin
from dar_jax.run.progress import check_ties, tied_steps
from dar_jax.run.reporter import Reporter
from dar_jax.run.restoring import Start, begin, restore
from dar_jax.run.session import Purpose, Session
from dar_jax.run.shared_judge import SharedJudge, Submitted, united
from dar_jax.run.timeline import Timeline
from dar_jax.sampling import rewards
from dar_jax.terminal.console import Console
from dar_jax.terminal.interrupts import Interrupts


def train(config: RunConfig, run_dir: Path | str) -> None:
    """Train from the start in a new folder, or under a new URL."""
    opening.check(run_dir)
    console = opening.console(config)
    with opening.signals(run_dir) as interrupts:
        session = open_session(config, console)
        with jax.set_mesh(session.mesh):
            start = begin(session, console)
            with (
                opening.created(session, run_dir) as folder,
                _open(session, folder, console, lambda _: start, interrupts) as run,
            ):
                run.save()  # from here on the run can be resumed, and the answers in its ledger are free
                run.steps()


def resume(run_dir: Path | str, overrides: Sequence[str], *, fallback: bool = False) -> None:
    """Resume a run from its latest checkpoint, to the bit as if it had never stopped.

    With `fallback` a damaged checkpoint is passed over for the one before it. Raises SettingError if there is nothing
    to resume, or an override would change the numbers.
    """
    with opening.signals(run_dir) as interrupts, opening.reopened(run_dir, overrides) as (folder, config):
        console = opening.console(config)
        session = open_session(config, console)

        def start(saved: RunState) -> Start:
            return restore(session, folder, saved, console, fallback=fallback)

        with jax.set_mesh(session.mesh), _open(session, folder, console, start, interrupts) as run:
            run.save()  # if the run ended before its first checkpoint
            if hosts.is_first():
                folder.write_config(to_yaml(config))
            run.steps()


@contextlib.contextmanager
def _open(
    session: Session,
    folder: opening.Folder,
    console: Console,
    start: Callable[[RunState], Start],
    interrupts: Interrupts,
) -> Iterator["Run"]:
    config = session.config
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(RunState(folder.checkpoints, config.checkpoints.keep))
        judges = stack.enter_context(opening.judges(config, folder, console))
        stack.callback(console.finish)
        console.note(f"run folder: {folder.path}; the first step compiles its programs and takes longest")
        yield Run(session, folder, console, saved, judges, start(saved), interrupts)


class Run:
    """A run under way: its changing state, and the steps that change it."""

    def __init__(
        self,
        session: Session,
        folder: opening.Folder,
        console: Console,
        saved: RunState,
        judges: tuple[Judge | None, Judge | None],
        start: Start,
        interrupts: Interrupts,
    ) -> None:
        self.session, self.config, self.learner = session, session.config, session.learner
        self.folder, self.console, self.saved = folder, console, saved
        self.judge, self.evaluator = (SharedJudge(judge) if judge else None for judge in judges)
        self.reporter = Reporter(self.config, folder, console)
        self.finite, self.interrupts = FiniteUpdates(session, folder, saved), interrupts
        self.sampler = session.sampler()
        self.held_out = HeldOut(session) if self.config.evaluation else None
        self.state, self.reference, self.progress, self.batch = start
        self.origin = origin(session)
        self.timeline = Timeline()

    def steps(self) -> None:
        """Run the remaining steps. However this ends, a checkpoint allows a resume."""
        if self.judge:
            opening.announce_cost(self.config, self.judge.judge, self.config.steps - self.progress.step, self.console)
        self.console.start(self.config.steps, self.progress.step)
        self.interrupts.remember()
        try:
            # A judge's thread that ran a program of several hosts would run it in another order on each.
            with jax.thread_guard(True):
                self.leave_if_asked()
                self.evaluate_if_due()
                while self.progress.step < self.config.steps:
                    self.step()
        except (JudgeStopped, BudgetSpent) as stop:
            self.save()
            override = f" {stop.setting}=..." if isinstance(stop, BudgetSpent) else ""
            raise type(stop)(f"{stop}\n{self._saved_where(override)}") from None
        self.console.finish()
        self.reporter.closing(self.judge, self.evaluator)

    def step(self) -> None:
        """Run one step, or the rest of one that was resumed within."""
        self.saved.check()  # a failed save ends the run before the judge is paid again
        self.timeline.begin()
        if self.batch is None:
            self.batch = self.gather()
        if not self.progress.tied_steps:
            self.learn(self.batch)
        self.batch = None
        metrics = self.reporter.step(self.progress, self.timeline, self.judge)
        memory = self.config.algorithm.updated_memory(self.progress.memory, metrics)
        done, last = self.progress.step + 1, self.config.steps
        due = self.config.evaluation is not None and self.config.evaluation.due(done, last)
        self.progress = self.progress.next_step(evaluation_due=due, memory=memory)
        self.evaluate_if_due()
        if done % self.config.checkpoints.every_steps == 0 or done == last:
            self.save()
        self.leave_if_asked()
        check_ties(self.progress, self.config)

    def gather(self) -> Batch:
        """Sample, judge, weigh: from pi_t to the batch that pi_theta learns from."""
        config, session, step = self.config, self.session, self.progress.step
        prompts = session.prompts.at(step * config.prompts_per_step, config.prompts_per_step)
        if not config.online:
            rollouts = self.learner.recall(self.state, self.reference, session.demonstrations(prompts))
            batch, metrics = self.learner.weigh(rollouts, None)
            self.progress.measured = floats(metrics)
            return batch
        assert self.judge is not None
        sampled, submitted = self._sample(prompts, self.judge)
        canaries = self.judge.submit_canaries(config.judge, step)
        with self.timeline.timed("recall"):
            rollouts = self.learner.recall(self.state, self.reference, parallel.joined(sampled, session.mesh))
            jax.block_until_ready(rollouts)
        with self.timeline.timed("judge_wait"):
            self.judge.wait([*submitted, *canaries], self.leave_if_asked)
            verdicts, judged = self.judge.collect(submitted, canaries)
        with self.timeline.timed("weigh"):
            batch, metrics = self.learner.weigh(
                rollouts, rewards(verdicts, config.group_size, session.mesh), self.progress.memory
            )
            columns = whole({name: metrics.pop(f"completion/{name}") for name in ("advantage", "weight")}, session.mesh)
            self.progress.measured = floats(metrics) | judged
            self.progress.tied_steps = tied_steps(self.progress.tied_steps, columns["advantage"])
        for each in submitted:
            self.timeline.concurrent("judge", each.pending.began, each.pending.ended)
        self.reporter.completions(step + 1, united(submitted), verdicts, columns)
        return batch

    def _sample(self, prompts: Sequence[Prompt], judge: SharedJudge) -> tuple[list[Rollouts], list[Submitted]]:
        """Sample in chunks, and submit each to the judge while the next is sampled."""
        config, session = self.config, self.session
        key, chunks = session.key(Purpose.SAMPLES, self.progress.step), config.sampling.chunks
        sampled, submitted = [], []
        with self.timeline.timed("sample"):
            # The decode parameters have no name here, so that they are freed as soon as sampling ends.
            for rollouts, completions in session.sample_in_chunks(
                self.sampler, self.learner.decode_params(self.state), prompts, config.group_size, key, chunks
            ):
                sampled.append(rollouts)
                submitted.append(judge.submit(completions))
        return sampled, submitted

    def learn(self, batch: Batch) -> None:
        """Regress: the updates of one batch, whose weights are fixed while pi_theta changes."""
        pending: list[Any] = []
        with self.timeline.timed("regress"):
            parts = self.learner.parts(batch, self.session.key(Purpose.MINIBATCHES, self.progress.step))
            while self.progress.update < self.config.learning.updates_per_batch:
                part = self.learner.part(batch, parts[self.progress.update])
                self.state, metrics = self.learner.regress(self.state, part)
                self.progress.update += 1
                pending.append(metrics)
                last = self.progress.update == self.config.learning.updates_per_batch
                if not (opening.signals_received(self.interrupts) or last or self.config.checkpoints.within_step):
                    continue
                # Fetching waits for the device, so metrics are fetched only before a save.
                self.progress.updates += self.finite.checked([*map(floats, pending)], batch, self.progress)
                pending.clear()
                if not last:
                    if self.config.checkpoints.within_step:
                        self.save()
                    self.leave_if_asked()

    def evaluate_if_due(self) -> None:
        """Evaluate the last whole step if that is due, also if a budget ended an earlier attempt."""
        if self.progress.evaluation_due and self.held_out:
            assert self.evaluator is not None
            outcome = self.held_out.evaluate(self.evaluator, self.state, self.reference, self.leave_if_asked)
            self.reporter.evaluation(self.progress.step, outcome)
        self.progress.evaluation_due = False

    def save(self) -> None:
        """Save everything that determines the next number; training continues while it is written."""
        with hosts.together("rows are written"):
            self.folder.flush()  # a resume from this checkpoint does not make these rows again
        number = self.progress.step * self.config.learning.updates_per_batch + self.progress.update
        self.saved.save(number, self.state.trees(), {**asdict(self.progress), "origin": self.origin}, self.batch)

    def leave_if_asked(self) -> None:
        """Save and raise Interrupted if any host received a signal; all hosts call this at the same point."""
        if signals := opening.signals_received(self.interrupts):
            self.save()
            raise Interrupted(f"{signals}. {self._saved_where()}")

    def _saved_where(self, override: str = "") -> str:
        return f"Saved; resume with: dar-jax train --resume {self.folder.path}{override}"
