"""Open the run folder, judges and console of a run. Host 0 writes and prints; the other hosts read the same folder, and
each host has its own judge and ledger.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from dar_jax import hosts
from dar_jax.config.config_file import parse_config, to_yaml
from dar_jax.config.run_config import RunConfig, differences
from dar_jax.errors import DarError, SettingError
from dar_jax.judging import Judge
from dar_jax.judging.money.forecast import shortage
from dar_jax.judging.money.spent import lost_answers
from dar_jax.judging.section import Settings
from dar_jax.policies.policy import keep_words
from dar_jax.run.session import Session
from dar_jax.runlog import RemoteFolder, RunFolder, layout
from dar_jax.terminal.console import Console
from dar_jax.terminal.interrupts import Interrupts

Folder = RunFolder | RemoteFolder


def check(run_dir: Path | str) -> None:
    """Check that a run can start in `run_dir`, before anything is loaded. Raises SettingError."""
    with hosts.together("place of the run folder"):
        if hosts.is_first():
            layout(run_dir).check(run_dir)


@contextlib.contextmanager
def signals(run_dir: Path | str) -> Iterator[Interrupts]:
    """Catch signals from before anything is loaded until everything is saved.

    Until `remember` is called a signal ends a single process at once; several hosts leave together before the first
    step.
    """

    def hint() -> str:
        started = layout(run_dir)(run_dir).is_run()
        return f"Resume with: dar-jax train --resume {run_dir}" if started else "Nothing was saved"

    interrupts = Interrupts(starting=hint if hosts.count() == 1 else None)
    with interrupts.caught():
        yield interrupts


@contextlib.contextmanager
def created(session: Session, run_dir: Path | str) -> Iterator[Folder]:
    """Create a run folder, locked for this run while the block runs.

    Raises SettingError if something is there already, or a host cannot read it.
    """
    with contextlib.ExitStack() as stack:
        with hosts.together("new run folder"):
            if hosts.is_first():
                folder: Folder = layout(run_dir).create(run_dir, to_yaml(session.config))
                stack.callback(folder.close)
                keep_words(folder, session.config.policy.path, session.decoder, session.tokenizer)
        if not hosts.is_first():
            folder = layout(run_dir)(run_dir)
        with hosts.together("shared run folder"):
            try:
                folder.config_yaml()
            except OSError as error:
                raise SettingError(
                    f"--run-dir {run_dir}: what host 0 wrote cannot be read here ({error.strerror}); several hosts"
                    " need a folder that all of them can read"
                ) from None
        with _resumable(run_dir):
            yield folder


def restart(session: Session, folder: Folder) -> None:
    """Reset a folder without a checkpoint to the start of its run; the answers in its ledgers stay, and are free.

    Raises SettingError if steps are logged: then checkpoints are lost, which a restart would hide.
    """
    with hosts.together("beginning of the run"):
        if hosts.is_first():
            if folder.read("metrics"):
                raise SettingError(
                    f"--resume {folder.path}: metrics.jsonl has steps, but there is no complete checkpoint; put the"
                    " checkpoints back, or start again with another --run-dir"
                )
            folder.forget_after(0, completions=0)
            keep_words(folder, session.config.policy.path, session.decoder, session.tokenizer)


@contextlib.contextmanager
def reopened(run_dir: Path | str, overrides: Sequence[str]) -> Iterator[tuple[Folder, RunConfig]]:
    """Open the folder of a run to resume, locked while the block runs, with its settings and the overrides.

    Raises SettingError if there is nothing to resume, another process uses it, or an override would change the
    numbers.
    """
    with hosts.together("run folder"):
        folder: Folder = layout(run_dir).reopen(run_dir)
        if hosts.is_first():
            folder.lock()
    with contextlib.closing(folder):
        settings = _settings(folder, run_dir, overrides)
        with _resumable(run_dir):
            yield folder, settings


@contextlib.contextmanager
def _resumable(run_dir: Path | str) -> Iterator[None]:
    """Add how to resume to an error that is not the user's and does not say so, such as a full disk."""
    try:
        yield
    except DarError as error:
        if type(error) is DarError and "--resume" not in str(error):
            # The same object, since the other hosts may have received it already.
            error.args = (f"{error}\nResume what is saved with: dar-jax train --resume {run_dir}",)
        raise


def _settings(folder: Folder, run_dir: Path | str, overrides: Sequence[str]) -> RunConfig:
    with hosts.together("settings of the run"):
        where = f"{run_dir}/config.yaml"
        before = parse_config(folder.config_yaml(), where=where)
        config = parse_config(folder.config_yaml(), overrides, where=where)
        if changed := differences(before, config):
            raise SettingError(
                f"--resume {run_dir}: {'; '.join(changed)}: a run cannot change what decides its numbers;"
                f" leave that out, or start another run from its policy: dar-jax export {run_dir} --output my-policy,"
                " then policy.path=my-policy (docs/resuming.md lists what a resume may change)"
            )
    return config


def console(config: RunConfig) -> Console:
    """Return the console, which prints on host 0 only."""
    return Console(config.display.mode) if hosts.is_first() else Console("quiet", io.StringIO())


def signals_received(interrupts: Interrupts) -> str:
    """Return the signals that any host has received, "" for none. All hosts must call it at the same point."""
    received = interrupts.received
    names = hosts.gather("signals", received.name if received else "", str)
    by = [f" by {host}" for host in hosts.names()] if len(names) > 1 else [""]
    return ", ".join(f"{name} received{host}" for name, host in zip(names, by, strict=True) if name)


@contextlib.contextmanager
def judges(config: RunConfig, folder: Folder, console: Console) -> Iterator[tuple[Judge | None, Judge | None]]:
    """Open the run's judge (None without one) and that of its evaluations: their own, or the same."""
    home: Folder = RunFolder(config.ledger) if config.ledger else folder
    apart = config.evaluation.judge if config.evaluation else None
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(_judge(config.judge, home, "ledger")) if config.judge else None
        if own:
            warn_of_lost_answers(own, folder, console)
            console.note(f"judge: {own.describe()}")
            for remark in own.remarks:
                console.warn(remark)
        yield own, stack.enter_context(_judge(apart, home, "held_out")) if apart else own


def _judge(settings: Settings, folder: Folder, name: str) -> Judge:
    """Open this host's judge, with its share of the rate limits and the budget and its own ledger.

    Ledgers that other hosts wrote before this start are read too, as a resume may divide the prompts differently.
    """
    with hosts.together("ledgers"):
        own, others = folder.ledger_of(hosts.index(), name), folder.other_ledgers(hosts.index(), name)
    with hosts.together("judge"):
        index, count = hosts.index(), hosts.count()
        opened = settings.share(index, count).open(own, others, index, count)
    try:
        # A mode that was probed must be the same on all hosts.
        hosts.agree({"judge": opened.describe()})
    except BaseException:
        opened.close()
        raise
    return opened


def warn_of_lost_answers(judge: Judge, folder: Folder, console: Console) -> None:
    """Warn if the ledger holds fewer answers than the run's log says were billed."""
    if hosts.is_first() and (warning := lost_answers(judge.spent_before, folder.read("metrics"))):
        console.warn(warning)


def announce_cost(config: RunConfig, judge: Judge, steps: int, console: Console) -> None:
    """Print the estimated judge calls and cost of the remaining steps; warn if the budget has no room for one step.

    Nothing is printed for the scripted judge.
    """
    one, rest = (config.forecast(config.rows_per_step * count) for count in (1, steps))
    if config.judge is None or one is None or rest is None or not steps or (one.dollars == 0.0 and one.seconds == 0.0):
        return
    spent = judge.spent_before
    usd = spent.usd(judge.price)
    known = f", by the {spent.annotations:,} answers in its ledger" if spent.annotations else ""
    about = rest.corrected(spent, usd).describe()
    console.note(f"judge, about, for {steps:,} steps{known}: {about} at 2 s a call; evaluations not counted")
    if warning := shortage(config.judge, spent, one.corrected(spent, usd), usd):
        console.warn(warning)
