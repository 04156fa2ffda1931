"""The verbs of several runs: `compare` sets algorithms side by side, `sweep` the points of a grid of settings."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dar_jax.errors import SettingError
from dar_jax.settings.arguments import file_and_overrides

if TYPE_CHECKING:
    from dar_jax.experiments.compare_settings import Comparison

_COMPARE = """\
Compare algorithms: each in several runs from one start, with the same prompts, sampler, judge and evaluation, for as
many annotations. The config is a run's, with a section `compare:` (docs/comparing.md).

  dar-jax compare configs/compare_minitldr.yaml
  dar-jax compare my.yaml --algorithms dar,sft --seeds 3 --annotations 7680 --output runs/mine

Every run is an ordinary run folder in the output folder; the same command goes on with what is unfinished and skips
what is done. comparison.json, comparison.md and plots (pip install 'dar-jax[plots]') are written at the end.
"""
_SWEEP = """\
Try settings: every point of a grid in several runs, otherwise as compare does.

  dar-jax sweep configs/quickstart.yaml --grid algorithm.alpha_ratio=0.1,0.4 --grid \\
    algorithm.total_regularization=0.01,0.05
"""
_STATUS = """\
exit status: 0 done; 1 runs failed or are missing, the others are reported; 2 a setting, file or argument cannot be
used; 5 stopped by a signal. After 1 and 5 the same command goes on.
"""


def add(verbs: Any, verb: Any) -> None:
    """Add the verbs by the command line's own `verb`."""
    compare = verb(verbs, "compare", _compare, "compare algorithms", _COMPARE, _STATUS)
    compare.add_argument(
        "--algorithms", metavar="NAME,...", help="those of the config, or any; the first is compared with"
    )
    compare.add_argument("--judges", metavar="NAME,...", help="some of the config's; default: all")
    sweep = verb(verbs, "sweep", _sweep, "try the points of a grid of settings", _SWEEP, _STATUS)
    grid = "an axis; give several"
    sweep.add_argument("--grid", action="append", required=True, metavar="KEY=VALUE,...", help=grid)
    for each in (compare, sweep):
        each.add_argument("settings", nargs="+", metavar="CONFIG key.sub=value", help="a YAML file, then overrides")
        each.add_argument("--seeds", type=int, metavar="N", help="runs of each, from the config's seed on")
        each.add_argument("--annotations", type=int, metavar="N", help="of each run, of which its steps follow")
        each.add_argument("--level", type=float, metavar="REWARD", help="held-out, to count annotations to")
        each.add_argument("--output", type=Path, metavar="FOLDER", help="new, or that of the same command")
        each.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once; default: 1")
        each.add_argument("--json", action="store_true", help="the rows as JSON in place of the tables")


def _compare(options: argparse.Namespace) -> int:
    from dar_jax.experiments.cells import make_plan
    from dar_jax.experiments.comparing import compare

    text, comparison, folder = _read(options, "compare")
    comparison = comparison.chosen(_names(options.algorithms), _names(options.judges))
    if not comparison.algorithms:
        raise SettingError(f"{options.settings[0]}: no algorithms to compare; list them by --algorithms NAME,...")
    plan = make_plan(text, comparison, folder, where=options.settings[0])
    return _finish(options, folder, lambda console: compare(plan, options.jobs, console))


def _sweep(options: argparse.Namespace) -> int:
    from dar_jax.experiments.cells import make_plan
    from dar_jax.experiments.comparing import sweep

    text, comparison, folder = _read(options, "sweep")
    grid = dict(map(_axis, options.grid))
    plan = make_plan(text, replace(comparison, algorithms={}, judges={}, grid=None), folder, where=options.settings[0])
    return _finish(options, folder, lambda console: sweep(plan, grid, options.jobs, console))


def _read(options: argparse.Namespace, verb: str) -> "tuple[str, Comparison, Path]":
    from dar_jax.experiments.compared_file import read_comparison

    path, overrides = file_and_overrides(verb, options.settings)
    for name, value in {"seeds": options.seeds, "annotations": options.annotations, "jobs": options.jobs}.items():
        if value is not None and value < 1:
            raise SettingError(f"--{name} {value}: expected a whole number above 0")
    text, comparison = read_comparison(path, overrides)
    given = {name: getattr(options, name) for name in ("seeds", "annotations", "level")}
    comparison = replace(comparison, **{name: value for name, value in given.items() if value is not None})
    folder = options.output or Path("runs") / f"{verb}-{path.stem}"
    if "=" in str(folder):
        raise SettingError(f"--output {folder}: a path with = is read as a setting; name one without")
    return text, comparison, folder


def _names(given: str | None) -> list[str]:
    return [name for name in (given or "").split(",") if name]


def _axis(given: str) -> tuple[str, list[Any]]:
    """Read KEY=VALUE,..., the values as a config file has them."""
    from dar_jax.settings.yaml_settings import merged

    key, _, values = given.partition("=")
    if not (key and values):
        raise SettingError(f"--grid {given}: expected KEY=VALUE,..., such as algorithm.alpha_ratio=0.1,0.4")
    return key, list(merged(f"values: [{values}]", where=f"--grid {given}")["values"])


def _finish(options: argparse.Namespace, folder: Path, run: Any) -> int:
    from rich.console import Console as Rich

    from dar_jax.reporting.comparison_page import tables
    from dar_jax.terminal.console import Console

    console = Console("quiet" if options.json else "auto")
    rows, missing = run(console)
    if options.json:
        print((folder / "comparison.json").read_text(), end="")
    else:
        out = Rich(width=None if sys.stdout.isatty() else 240)
        for table in tables(rows):
            out.print(table)
    if missing:
        print(f"dar-jax: {missing} runs failed; the same command tries them again", file=sys.stderr)
    console.note(f"everything is in {folder}")
    return 1 if missing else 0
