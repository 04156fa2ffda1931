"""What a run opens beside its session: a folder, a judge, a screen. Of several hosts the first writes and speaks; the
others read the same folder, and every one has a judge with a ledger of its own.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from dar_jax import hosts
from dar_jax.config import RunConfig, differences
from dar_jax.config_file import parse_config, to_yaml
from dar_jax.console import Console
from dar_jax.errors import SettingError
from dar_jax.judging import GeminiJudge, Judge, OpenAIJudge, ScriptedJudge
from dar_jax.policy import keep_words
from dar_jax.runlog import RunFolder
from dar_jax.session import Session


def create(session: Session, run_dir: Path) -> RunFolder:
    """Start a run folder. Raises SettingError where something is there already, or a host does not see it."""
    with hosts.together("new run folder"):
        if hosts.is_first():
            made = RunFolder.create(run_dir, to_yaml(session.config))
            keep_words(made, session.config.policy.path, session.decoder, session.tokenizer)
    folder = RunFolder(run_dir)
    with hosts.together("shared run folder"):
        try:
            folder.config_yaml()
        except OSError as error:
            raise SettingError(
                f"--run-dir {run_dir}: what host 0 wrote is not there ({error.strerror}); several hosts need a folder"
                " that all of them see"
            ) from None
    return folder


def reopen(run_dir: Path, overrides: Sequence[str]) -> tuple[RunFolder, RunConfig]:
    """Open the folder of a run that goes on, and its settings with the overrides.

    Raises SettingError where there is nothing to go on with, or where an override would change the maths.
    """
    with hosts.together("run folder"):
        folder = RunFolder.reopen(run_dir)
        where = str(run_dir / "config.yaml")
        before = parse_config(folder.config_yaml(), where=where)
        config = parse_config(folder.config_yaml(), overrides, where=where)
        if changed := differences(before, config):
            raise SettingError(
                f"--resume {run_dir}: {'; '.join(changed)}: a run cannot change what decides its numbers;"
                " leave that out, or start another run"
            )
    return folder, config


def console(config: RunConfig) -> Console:
    """Speak on one host: the others would say the same."""
    return Console(config.display.mode) if hosts.is_first() else Console("quiet", io.StringIO())


def judge(settings: OpenAIJudge | GeminiJudge | ScriptedJudge, folder: RunFolder) -> Judge:
    """Open this host's judge, with its share of the rates and a ledger of its own.

    What other hosts have paid for before this start is found as well: a resume may divide the prompts otherwise.
    """
    first = folder.ledger
    own = first.with_stem(f"{first.stem}-{hosts.index()}") if hosts.index() else first
    with hosts.together("ledgers"):
        others = [path for path in sorted(first.parent.glob(f"{first.stem}*{first.suffix}")) if path != own]
    with hosts.together("judge"):
        return settings.share(hosts.index(), hosts.count()).open(own, others)
