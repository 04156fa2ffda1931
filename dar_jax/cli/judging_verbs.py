"""The verbs of judging outside a run: `judge` scores a file, `agreement` measures judges against people, `ledger` looks
at the answers that judges gave.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.settings.arguments import file_and_overrides
from dar_jax.terminal.visible import visible

_JUDGE = """\
Score a file of completions with the judge of a config: of its settings, those under `judge:` alone are used.

  dar-jax judge my.yaml --input completions.jsonl --output judged.jsonl
  dar-jax judge my.yaml --input completions.jsonl --output judged.jsonl judge.model=gpt-5-mini

A row is {"prompt": ..., "completion": ...}, each a string or a list of messages; other columns pass through. The output
adds status, reward (null unless the status is ok), reason, served_model and probabilities. Answers are in a ledger
before they are used: started again after a kill, it pays for the rest alone. The output appears at the end, whole.
"""
_JUDGE_STATUS = """\
exit status: 0 done; 2 a setting, file or argument cannot be used; 3 the judge failed too often; 4 its budget is spent;
5 stopped by a signal. After 3, 4 and 5 there is no output; the same command goes on.
"""
_AGREEMENT = """\
Measure judges against people: on pairs of which people chose one, how often does each judge agree, by the rewards it
gives (AI reward) and by comparing the two (AI preference)?

  dar-jax agreement my.yaml --data pairs.jsonl --output agreement
  dar-jax agreement one.yaml other.yaml --data trl-lib/tldr-preference --split 'validation[:1000]' --output both

A row is {"prompt": ..., "chosen": ..., "rejected": ...}, strings or lists of messages; without prompt, chosen and
rejected are conversations that begin alike. The output folder gets agreement.json, agreement.html (with plots:
pip install 'dar-jax[plots]') and a ledger a judge and label mode: the same command pays for nothing twice.
"""
_AGREEMENT_STATUS = """\
exit status: 0 done; 2 a setting, file or argument cannot be used; 3 a judge failed too often; 4 its budget is spent;
5 stopped by a signal. After 3, 4 and 5 the same command goes on.
"""
_LEDGER = """\
Look at the answers that judges gave. PATH is a ledger's file, a run folder (with the ledgers of its other hosts) or a
run's URL. It is only read, and a run may be using it.

  dar-jax ledger stats runs/short
  dar-jax ledger export runs/short --output answers.jsonl
  dar-jax ledger merge runs/one runs/two/ledger.sqlite --output both.sqlite
  dar-jax ledger audit runs/short
"""
_LEDGER_STATUS = "exit status: 0 done, or sound; 1 audit has findings; 2 a file or argument cannot be used.\n"


def add(verbs: Any, verb: Any, place: Any) -> None:
    """Add the verbs by the command line's own `verb`; `place` reads where a run or a ledger lies."""
    judge = verb(verbs, "judge", _judge, "score a file of completions", _JUDGE, _JUDGE_STATUS)
    judge.add_argument("settings", nargs="+", metavar="CONFIG judge.key=value", help="a YAML file, then overrides")
    judge.add_argument("--input", type=Path, required=True, metavar="FILE", help="the completions, JSONL")
    judge.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write; must be new")
    judge.add_argument("--ledger", type=Path, metavar="FILE", help="of the answers; default: OUTPUT.ledger.sqlite")
    judge.add_argument("--batch", action="store_true", help="OpenAI's Batch API: half the price, within 24 hours")
    _add_agreement(verb(verbs, "agreement", _agreement, "measure judges against people", _AGREEMENT, _AGREEMENT_STATUS))
    ledger = verb(verbs, "ledger", _stats, "look at, write out, merge or audit answers", _LEDGER, _LEDGER_STATUS)
    _add_actions(ledger.add_subparsers(title="actions", required=True, metavar="ACTION"), verb, place)


def _add_agreement(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("settings", nargs="+", metavar="CONFIG judge.key=value", help="YAML files, then overrides of all")
    verb.add_argument("--data", required=True, metavar="PATH", help="pairs: a file, a dataset folder or a hub id")
    verb.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="new, or that of the same command")
    verb.add_argument("--split", default="train", help="of the data, such as train[:1000]; default: train")
    verb.add_argument("--subset", metavar="NAME", help="the hub's name for a configuration")
    verb.add_argument("--labels", choices=("both", "reward", "preference"), default="both", help="default: both")
    verb.add_argument("--json", action="store_true", help="one JSON list in place of the table")


def _add_actions(actions: Any, verb: Any, place: Any) -> None:
    stats = verb(actions, "stats", _stats, "answers, tokens and dollars by judge", _LEDGER)
    stats.add_argument("place", type=place, metavar="PATH")
    stats.add_argument("--prices", metavar="YAML", help="of all answers: '{input: 0.1, output: 0.5, date: 2026-11}'")
    stats.add_argument("--json", action="store_true", help="one JSON object")
    export = verb(actions, "export", _export, "one JSON object an answer", _LEDGER)
    export.add_argument("place", type=place, metavar="PATH")
    merge = verb(actions, "merge", _merge, "one ledger of several; of two answers the first", _LEDGER)
    merge.add_argument("places", type=place, nargs="+", metavar="PATH")
    for each in (export, merge):
        each.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write; must be new")
    audit = verb(actions, "audit", _audit, "say what is wrong, a line each", _LEDGER, _LEDGER_STATUS)
    audit.add_argument("place", type=place, metavar="PATH")
    for each in (export, audit):
        floor = "judge.mass_floor; default: the run's, else 0.5"
        each.add_argument("--mass-floor", type=float, metavar="SHARE", help=floor)


def _judge(options: argparse.Namespace) -> None:
    from dar_jax.judging.section import read_judge
    from dar_jax.relabeling.relabel import relabel
    from dar_jax.terminal.console import Console

    settings = read_judge(*file_and_overrides("judge", options.settings))
    relabel(settings, options.input, options.output, options.ledger, Console("auto"), batch=options.batch)


def _agreement(options: argparse.Namespace) -> None:
    from rich.console import Console as Rich

    from dar_jax.data.preference_pairs import read_pairs
    from dar_jax.evaluation import judge_agreement
    from dar_jax.judging.section import read_judge
    from dar_jax.reporting.agreement_page import table, write_page
    from dar_jax.terminal.console import Console

    files = [Path(each) for each in options.settings if "=" not in each]
    judges = [(name, read_judge(file, options.settings[len(files) :])) for name, file in _named(files)]
    modes = [each for each in judge_agreement.LABELS if options.labels in ("both", each)]
    pairs = read_pairs(options.data, options.split, options.subset)
    console = Console("quiet" if options.json else "auto")
    found = judge_agreement.measure(judges, modes, pairs, options.output, console)
    file, rows = judge_agreement.write(found, options.output), [each.to_plain() for each in found]
    if find_spec("matplotlib"):
        write_page(rows, f"{len(pairs):,} pairs of {options.data}, split {options.split}", file.with_suffix(".html"))
    else:
        console.note("no page with plots: pip install 'dar-jax[plots]'")
    if options.json:
        print(file.read_text(), end="")
    else:
        Rich(width=None if sys.stdout.isatty() else 200).print(table(rows))
        console.note(f"everything is in {options.output}")


def _named(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Call each judge as its file; one that comes twice is numbered."""
    if not files:
        raise SettingError("agreement: no config file; write: dar-jax agreement CONFIG --data PATH --output FOLDER")
    stems = [file.stem for file in files]
    return [
        (stem if stems.count(stem) == 1 else f"{stem}-{index + 1}", file)
        for index, (stem, file) in enumerate(zip(stems, files, strict=True))
    ]


def _stats(options: argparse.Namespace) -> None:
    from rich.console import Console

    from dar_jax.reporting import ledgers

    ledgers.stats(
        options.place, Console(width=None if sys.stdout.isatty() else 160), as_json=options.json, prices=options.prices
    )


def _export(options: argparse.Namespace) -> None:
    from dar_jax.reporting import ledgers

    print(ledgers.export(options.place, options.output, options.mass_floor))


def _merge(options: argparse.Namespace) -> None:
    from dar_jax.reporting import ledgers

    print(ledgers.merge(options.places, options.output))


def _audit(options: argparse.Namespace) -> int:
    from dar_jax.reporting import ledgers

    findings, looked_at = ledgers.audit(options.place, options.mass_floor)
    for finding in findings:
        print(visible(finding))
    print(f"{looked_at}: {f'{len(findings)} findings' if findings else 'sound'}", file=sys.stderr)
    return 1 if findings else 0
