"""The command line: verbs, nothing else."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dar_jax import __version__
from dar_jax.cli import comparison_verbs, judging_verbs
from dar_jax.errors import DarError, SettingError
from dar_jax.runlog.disk import disk_line
from dar_jax.settings.arguments import file_and_overrides, unknown_options
from dar_jax.terminal.json_text import json_text
from dar_jax.terminal.screen import tolerant_streams
from dar_jax.terminal.visible import visible

_TRAIN = """\
Align a policy with an online judge, or resume a run.

  dar-jax train configs/quickstart.yaml
  dar-jax train configs/quickstart.yaml steps=20 learning.optimizer.learning_rate=1e-4 --run-dir runs/short
  dar-jax train --resume runs/short
  dar-jax train --resume runs/short steps=40

A config file states only what differs from the defaults; key.sub=value does the same on the command line.
The run folder holds config.yaml, metrics.jsonl, completions.jsonl, ledger.sqlite and checkpoints/; it may lie in a
bucket: --run-dir gs://BUCKET/PATH (docs/pods.md).
"""
_TRAIN_USAGE = """\
dar-jax train CONFIG [key.sub=value ...] [--run-dir DIR]
       dar-jax train --resume RUN_DIR [key.sub=value ...]"""
_STATUS = """\
exit status: 0 done; 1 a file, disk or server failed; 2 a setting, file or argument cannot be used; 3 the judge failed
too often, or only tied; 4 the judge's budget is spent; 5 stopped by a signal; 6 another host is gone; 7 numbers are no
longer finite. After 3, 4 and 5 the run is saved, after 1 and 6 it is as last saved: use --resume, after 4 with more:
--resume RUN_DIR judge.budget_usd=... After 7 it is as last saved, and a resume would repeat it.
"""
_EXPORT = """\
Write a run's policy as a Hugging Face folder: safetensors, config, tokenizer, generation config, model card.

  dar-jax export runs/short --output my-policy
  dar-jax export runs/short --step 20 --dtype bfloat16 --output my-policy-at-20

It reads the run folder alone (and a LoRA's base model), while the run goes on too. The folder appears whole or not at
all; nothing is overwritten. What was saved within a step (by a signal, say) is exported as the newest; --step names
whole steps.
"""
_SAMPLE = """\
Show what a policy says: a run's, or that of a Hugging Face folder or hub id.

  dar-jax sample runs/short --prompt "the cat" -n 4
  dar-jax sample Qwen/Qwen3-0.6B --prompt "Name a fish." --template enable_thinking=false
  dar-jax sample runs/short --chat
  echo "the cat" | dar-jax sample runs/short --json

What is not asked is as the run samples, or as the model's generation_config.json states. A prompt goes through the
model's chat template, where it has one and the run's prompts did too; --raw gives it as bare text.
"""
_SERVE = """\
Serve the scripted judge on this machine, as an OpenAI-compatible (and Gemini-compatible) server.

  dar-jax serve port=8800 scorer=overlap
  dar-jax serve port=8800 'faults={rate_limit: 0.1, server_error: 0.05}' seed=1
"""
_PLAN = """\
Say before renting it what a run takes on a TPU slice, and whether it fits: its programs are compiled by the TPU's own
compiler, which needs no TPU (pip install 'dar-jax[tpu]').

  dar-jax plan configs/pods/tldr.yaml --topology v5e:2x4
  dar-jax plan configs/pods/tldr.yaml --topology v5p:2x2x1 mesh.tensor=4 --json

Of the policy only its config.json is read, of the data nothing. Large models take minutes.
"""
_PLAN_STATUS = "exit status: 0 it fits; 1 it does not; 2 a setting, file or argument cannot be used.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a mistake of the user's is one line, not a traceback."""
    with tolerant_streams():
        options = _parse(arguments)
        return guarded(lambda: options.verb(options))


def guarded(verb: Callable[[], int | None]) -> int:
    """Run a verb and return its exit status; a DarError, or a disk that refuses, is one line."""
    try:
        return verb() or 0
    except DarError as error:
        print(f"dar-jax: {visible(str(error))}", file=sys.stderr)
        return error.exit_status
    except (OSError, ValueError) as error:
        if (told := disk_line(error)) is None:
            raise
        print(f"dar-jax: {visible(told)}", file=sys.stderr)
        return DarError.exit_status
    except KeyboardInterrupt:
        print("dar-jax: interrupted", file=sys.stderr)
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, later = parser.parse_known_args(given)
    # argparse takes a row of settings once; those behind an option come here.
    if later and not hasattr(options, "settings"):
        parser.error(f"unrecognized arguments: {' '.join(later)}")
    if any(each.startswith("-") for each in later):
        parser.error(unknown_options(later, given, options.options.format_help()))
    if later:
        options.settings += later
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dar-jax", description="Align language models with online AI reward.")
    parser.add_argument("--version", action="version", version=f"dar-jax {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    train = _verb(verbs, "train", _train, "align a policy, or resume a run", _TRAIN, _STATUS)
    train.usage = _TRAIN_USAGE
    train.add_argument("settings", nargs="*", metavar="CONFIG key.sub=value", help="a YAML file, then overrides")
    train.add_argument("--run-dir", type=_place, help="a new folder or URL; default: runs/CONFIG-DATE-TIME")
    train.add_argument("--resume", type=_place, metavar="RUN_DIR", help="resume the run in this folder")
    train.add_argument(
        "--fallback",
        action="store_true",
        help="with --resume: where the newest is damaged, take an older checkpoint",
    )
    _add_hosts(train)
    export = _verb(verbs, "export", _export, "write a run's policy in Hugging Face form", _EXPORT)
    export.add_argument("run", type=_place, help="the run folder")
    export.add_argument("--output", type=Path, required=True, help="the folder to write; must be new or empty")
    export.add_argument(
        "--step", type=int, help="after so many steps (metrics.jsonl counts them); default: as saved last"
    )
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    export.add_argument("--adapter", action="store_true", help="LoRA adapters alone, in PEFT's form; default: merged")
    _add_sample(verbs)
    comparison_verbs.add(verbs, _verb)
    judging_verbs.add(verbs, _verb, _place)
    plan = _verb(verbs, "plan", _plan, "say what a run takes on a TPU slice, without one", _PLAN, _PLAN_STATUS)
    plan.add_argument("settings", nargs="+", metavar="CONFIG key.sub=value", help="a YAML file, then overrides")
    plan.add_argument("--topology", required=True, help="the slice, such as v5e:2x4 or v5p:4x4x4")
    plan.add_argument("--json", action="store_true", help="one JSON object, bytes and seconds unrounded")
    plan.add_argument("--judge-latency", type=float, default=2.0, metavar="SECONDS", help="of one call; default: 2")
    serve = _verb(verbs, "serve", _serve, "serve the scripted judge over HTTP", _SERVE)
    serve.add_argument("settings", nargs="*", metavar="key=value", help="settings of the server")
    return parser


def _add_hosts(train: argparse.ArgumentParser) -> None:
    hosts = train.add_argument_group(
        "several hosts",
        "A Cloud TPU pod needs none of these; elsewhere start the same command on every host, with its own --process."
        " Each can come from the environment: DAR_JAX_COORDINATOR and so on. See docs/pods.md.",
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="a free port of process 0's host")
    hosts.add_argument("--processes", type=int, metavar="N", help="how many processes the run has")
    hosts.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    hosts.add_argument("--start-timeout", type=int, metavar="SECONDS", help="how long to wait for all; default: 300")
    hosts.add_argument("--lost-after", type=int, metavar="SECONDS", help="a silent host is gone after; default: 60")


def _add_sample(verbs) -> None:  # type: ignore[no-untyped-def]
    sample = _verb(verbs, "sample", _sample, "show completions of a prompt, or talk", _SAMPLE)
    sample.add_argument("source", metavar="RUN_OR_MODEL", help="a run folder, a Hugging Face folder or a hub id")
    sample.add_argument("--prompt", action="append", metavar="TEXT", help="what to complete; - reads standard input")
    sample.add_argument("-n", type=int, default=1, metavar="COUNT", help="completions of each prompt; default: 1")
    sample.add_argument("--chat", action="store_true", help="talk in the terminal; /reset starts anew, /quit leaves")
    sample.add_argument("--step", type=int, help="after which step of the run; default: as last saved")
    sample.add_argument("--temperature", type=float, help="0 takes the likeliest token")
    sample.add_argument("--top-p", type=float)
    sample.add_argument("--top-k", type=int)
    sample.add_argument("--max-tokens", type=int, help="the longest completion")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same completions; default: 0")
    sample.add_argument("--system", metavar="TEXT", help="the system message")
    sample.add_argument("--raw", action="store_true", help="no chat template: the prompt as bare text")
    sample.add_argument("--template", action="append", default=[], metavar="KEY=VALUE", help="a template's argument")
    sample.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16, on a CPU float32")
    sample.add_argument("--json", action="store_true", help="one JSON object a line")


def _verb(verbs, name, function, summary, description, epilog=None):  # type: ignore[no-untyped-def]
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # --seed would stand for --seeds.
        allow_abbrev=False,
    )
    parser.set_defaults(verb=function, options=parser)
    return parser


def _place(text: str) -> Path | str:
    """Read where a run lies: a path, or a URL as it stands (Path would make one slash of its two)."""
    return text if "://" in text else Path(text).expanduser()


def _train(options: argparse.Namespace) -> int | None:
    from dar_jax import hosts

    places = (options.coordinator, options.processes, options.process, options.start_timeout, options.lost_after)
    joining = hosts.find(*places)
    if joining is None:
        _start(options)
        return None

    def join() -> None:
        with hosts.joined(joining):
            _start(options)

    return hosts.mind(lambda: guarded(join))


def _start(options: argparse.Namespace) -> None:
    if options.resume:
        if options.run_dir:
            raise SettingError("--run-dir with --resume: a resumed run stays in its folder; leave --run-dir out")
        if options.settings and "=" not in options.settings[0]:
            raise SettingError(
                f"--resume with a config file ({options.settings[0]}): the run folder has its own config.yaml;"
                " leave the file out"
            )
        from dar_jax.training import resume

        return resume(options.resume, options.settings, fallback=options.fallback)
    if options.fallback:
        raise SettingError("--fallback: only a resume falls back to an older checkpoint; leave it out")
    path, overrides = file_and_overrides("train", options.settings)
    from dar_jax import hosts
    from dar_jax.config.config_file import read_config
    from dar_jax.training import train

    with hosts.together("settings"):
        config = read_config(path, overrides)
    named = options.run_dir or Path("runs") / f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return train(config, _place(hosts.gather("run folder", str(named), str)[0]))


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from dar_jax.config.config_file import read_config
    from dar_jax.planning import Assumptions, make_plan, suggest_changes, topology
    from dar_jax.planning.report import show, to_plain

    config = read_config(*file_and_overrides("plan", options.settings))
    where, assumed = topology(options.topology), Assumptions(judge_latency_s=options.judge_latency)
    with Console(stderr=True).status("reading") as status:
        plan = make_plan(config, where, status.update, assumed)
        ways = [] if plan.fits else suggest_changes(config, plan, status.update)
    if options.json:
        print(json_text(to_plain(plan, ways), indent=1))
    else:
        show(plan, ways, Console(width=None if sys.stdout.isatty() else 120))
    return 0 if plan.fits else 1


def _export(options: argparse.Namespace) -> None:
    from dar_jax.policies.export import export

    export(options.run, options.output, options.step, options.dtype, adapter=options.adapter)


def _sample(options: argparse.Namespace) -> None:
    if options.chat and (options.prompt or options.json or options.n != 1):
        raise SettingError(
            "--chat: what you say is the prompt, and each gets one answer; leave --prompt, -n, --json out"
        )
    texts = [] if options.chat else _prompt_texts(options.prompt)
    from dar_jax.policies.sample import SampleRequest, sample

    asked = SampleRequest(
        step=options.step,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        max_tokens=options.max_tokens,
        seed=options.seed,
        system=options.system,
        raw=options.raw,
        template_arguments=dict(map(_template_argument, options.template)),
        dtype=options.dtype,
    )
    if options.chat:
        from dar_jax.policies.conversation import converse

        return converse(options.source, asked)
    return sample(options.source, texts, options.n, asked, as_json=options.json)


def _prompt_texts(given: list[str] | None) -> list[str]:
    """Read the prompts; standard input stands for `-`, and for none at all where something is piped in."""
    if not given and sys.stdin.isatty():
        raise SettingError("sample: no prompt; write --prompt TEXT, pipe it in, or talk with --chat")
    texts = [sys.stdin.read().rstrip("\n") if text == "-" else text for text in given or ["-"]]
    if not all(texts):
        raise SettingError("--prompt: it is empty; say something")
    return texts


def _template_argument(given: str) -> tuple[str, object]:
    """Read KEY=VALUE, the value as JSON where it is some."""
    key, equals, value = given.partition("=")
    if not (key and equals):
        raise SettingError(f"--template {given}: expected KEY=VALUE, such as enable_thinking=false")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _serve(options: argparse.Namespace) -> None:
    from dar_jax.chat.scripted.server import main_loop, read_settings

    main_loop(read_settings(options.settings))
