"""The verbs of judging outside a run: `judge` scores a file, `ledger` looks at the answers that judges gave."""

import argparse
import sys
from pathlib import Path
from typing import Any

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
    ledger = verb(verbs, "ledger", _stats, "look at, write out, merge or audit answers", _LEDGER, _LEDGER_STATUS)
    _add_actions(ledger.add_subparsers(title="actions", required=True, metavar="ACTION"), verb, place)


def _add_actions(actions: Any, verb: Any, place: Any) -> None:
    stats = verb(actions, "stats", _stats, "answers, tokens and dollars by judge", _LEDGER)
    stats.add_argument("place", type=place, metavar="PATH")
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
    from dar_jax.console import Console
    from dar_jax.judging.section import read_judge
    from dar_jax.relabel import relabel

    settings = read_judge(Path(options.settings[0]), options.settings[1:])
    relabel(settings, options.input, options.output, options.ledger, Console("auto"))


def _stats(options: argparse.Namespace) -> None:
    from rich.console import Console

    from dar_jax import ledgers

    ledgers.stats(options.place, Console(width=None if sys.stdout.isatty() else 160), as_json=options.json)


def _export(options: argparse.Namespace) -> None:
    from dar_jax import ledgers

    print(ledgers.export(options.place, options.output, options.mass_floor))


def _merge(options: argparse.Namespace) -> None:
    from dar_jax import ledgers

    print(ledgers.merge(options.places, options.output))


def _audit(options: argparse.Namespace) -> int:
    from dar_jax import ledgers

    findings, looked_at = ledgers.audit(options.place, options.mass_floor)
    for finding in findings:
        print(finding)
    print(f"{looked_at}: {f'{len(findings)} findings' if findings else 'sound'}", file=sys.stderr)
    return 1 if findings else 0
