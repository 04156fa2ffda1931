"""The command line: verbs, nothing else."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dar_jax import __version__
from dar_jax.errors import DarError, SettingError

_TRAIN = """\
Align a policy with an online judge, or go on with a run.

  dar-jax train configs/quickstart.yaml
  dar-jax train configs/quickstart.yaml steps=20 learning.optimizer.learning_rate=1e-4 --run-dir runs/short
  dar-jax train --resume runs/short
  dar-jax train --resume runs/short steps=40

A config file states only what differs from the defaults; key.sub=value does the same on the command line.
The run folder holds config.yaml, metrics.jsonl, completions.jsonl, ledger.sqlite and checkpoints/.
"""
_TRAIN_USAGE = """\
dar-jax train CONFIG [key.sub=value ...] [--run-dir DIR]
       dar-jax train --resume RUN_DIR [key.sub=value ...]"""
_STATUS = """\
exit status: 0 done; 2 a setting, file or argument cannot be used; 3 the judge failed too often; 5 stopped by a
signal. After 3 and 5 the run is saved: go on with --resume.
"""
_EXPORT = """\
Write a run's policy as a Hugging Face folder: config, tokenizer, safetensors.

  dar-jax export runs/short --output my-policy
"""
_SERVE = """\
Serve the scripted judge on this machine, as an OpenAI-compatible (and Gemini-compatible) server.

  dar-jax serve port=8800 scorer=overlap
  dar-jax serve port=8800 'faults={rate_limit: 0.1, server_error: 0.05}' seed=1
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a mistake of the user's is one line, not a traceback."""
    options = _parse(arguments)
    try:
        options.verb(options)
    except DarError as error:
        print(f"dar-jax: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("dar-jax: interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, later = parser.parse_known_args(arguments)
    # argparse takes a row of settings once; those behind an option come here.
    if later and (any(each.startswith("-") for each in later) or not hasattr(options, "settings")):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if later:
        options.settings += later
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dar-jax", description="Align language models with online AI reward.")
    parser.add_argument("--version", action="version", version=f"dar-jax {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train = _verb(verbs, "train", _train, "align a policy, or go on with a run", _TRAIN, _STATUS)
    train.usage = _TRAIN_USAGE
    train.add_argument("settings", nargs="*", metavar="CONFIG key.sub=value", help="a YAML file, then overrides")
    train.add_argument("--run-dir", type=Path, help="where to write; default: runs/CONFIG-DATE-TIME")
    train.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with the run in this folder")
    export = _verb(verbs, "export", _export, "write a run's policy in Hugging Face form", _EXPORT)
    export.add_argument("run", type=Path, help="the run folder")
    export.add_argument("--output", type=Path, required=True, help="the folder to write; must be new or empty")
    export.add_argument("--step", type=int, help="of which checkpoint; default: the newest")
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    serve = _verb(verbs, "serve", _serve, "serve the scripted judge over HTTP", _SERVE)
    serve.add_argument("settings", nargs="*", metavar="key=value", help="settings of the server")
    return parser


def _verb(verbs, name, function, summary, description, epilog=None):  # type: ignore[no-untyped-def]
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(verb=function)
    return parser


def _train(options: argparse.Namespace) -> None:
    if options.resume:
        if options.run_dir:
            raise SettingError("--run-dir with --resume: a resumed run stays in its folder; leave --run-dir out")
        if options.settings and "=" not in options.settings[0]:
            raise SettingError(
                f"--resume with a config file ({options.settings[0]}): the run folder has its own config.yaml;"
                " leave the file out"
            )
        from dar_jax.train import resume

        return resume(options.resume, options.settings)
    if not options.settings or "=" in options.settings[0]:
        raise SettingError("train: no config file; write: dar-jax train CONFIG [key.sub=value ...]")
    from dar_jax.config_file import read_config
    from dar_jax.train import train

    path = Path(options.settings[0])
    config = read_config(path, options.settings[1:])
    return train(config, options.run_dir or Path("runs") / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}")


def _export(options: argparse.Namespace) -> None:
    from dar_jax.export import export

    export(options.run, options.output, options.step, options.dtype)


def _serve(options: argparse.Namespace) -> None:
    from dar_jax.chat.server import main_loop, read_settings

    main_loop(read_settings(options.settings))
