"""CPU speed of sampling and of an online step beside TRL, Tunix and transformers: same shapes, one run, one core each.

    python benchmarks/cpu_peers.py --scripts PEERS --models MODELS --tunix v-tunix/bin/python --trl v-trl/bin/python \
        --output benchmarks/results/cpu_peers.json

PEERS is the folder of the peers' own scripts (bench_tunix.py, bench_trl.py, bench_hf_generate.py), MODELS what its
make_models.py has written: random float32 Qwen2 models, S of 12M parameters (width 256, 4 layers) and M of 126M (width
768, 12 layers), both with 32,000 words. A peer whose interpreter is not given is left out, and said to be.

Sampling: 16 prompts x 4 completions, 64 + 128 tokens, temperature 1. An online step: those prompts (M: 4 x 4), one
update by AdamW, float32, reference on, a reward that counts words; ours is DAR, which recalls log pi_t beside
log pi_ref, the peers' is GRPO, which here needs log pi_ref alone. The peers take micro-batches of 16 rows, we of 4,
which a core's caches hold better, with all of a completion's logits at once; that changes no update.

Every row is a process of its own on one core, so that its peak memory is its own; ours and the peers' take turns,
`--rounds` times. `*_cpu` count process CPU seconds after compilation: they hardly move on a shared machine, wall
seconds do. `floor` is what this core multiplies; compare figures of one run, not of two machines.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dar_jax.run.session import Session

PROMPT, NEW, GROUP, MICRO = 64, 128, 4, 4
PROMPTS = {"sampler": {"s": 16, "m": 16}, "step": {"s": 16, "m": 4}}
WORDS = 32_000


def own_core() -> None:
    """Hold this process to one core; before jax starts, or it takes all."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["JAX_PLATFORMS"] = "cpu"


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def peak_gib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


class Timed:
    """Wall and CPU seconds of named phases, one list a phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, name: str, phase: Any, *arguments: Any) -> Any:
        import jax

        began = clocks()
        result = jax.block_until_ready(phase(*arguments))
        ended = clocks()
        self.seconds.setdefault(name, []).append((ended[0] - began[0], ended[1] - began[1]))
        return result

    def median(self, clock: int) -> dict[str, float]:
        """Give each phase's median without its first run, which compiled."""
        return {name: statistics.median(row[clock] for row in rows[1:]) for name, rows in self.seconds.items()}


def open_session(model: Path, prompts: int, new: int, folder: Path) -> "Session":
    """Open a run of the shapes compared, as `dar-jax train` would."""
    import numpy as np

    from dar_jax.config.run_config import validate
    from dar_jax.run.build import open_session
    from dar_jax.terminal.console import Console

    words = np.random.default_rng(0).integers(3, WORDS, (64, PROMPT))
    lines = [json.dumps({"prompt": " ".join(f"w{word}" for word in row)}) for row in words]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    settings = {
        "policy": {"path": str(model)},
        "data": {"name": "files", "path": str(folder / "prompts.jsonl")},
        "judge": {"name": "scripted", "scorer": "overlap", "rubric": "tldr"},
        "prompts_per_step": prompts,
        "group_size": GROUP,
        "sampling": {"max_prompt_length": PROMPT, "max_completion_length": new},
        "learning": {
            "optimizer": {"name": "adamw", "learning_rate": 1e-6},
            "updates_per_batch": 1,
            "micro_batch_size": MICRO,
            "compute_dtype": "float32",
            "logprob_chunk": new,
            "remat": False,
        },
    }
    return open_session(validate(settings), Console("quiet"))


def sampled(session: "Session", sampler: Any, params: Any, asked: Any, key: Any) -> Any:
    ((rollouts, _),) = session.sample_in_chunks(sampler, params, asked, GROUP, key, chunks=1)
    return rollouts


def child_sampler(model: Path, prompts: int, repeats: int) -> dict[str, Any]:
    """Generate 1 and NEW tokens in turns: the difference is decoding."""
    import jax

    from dar_jax.terminal.console import Console

    timed, sequences = Timed(), prompts * GROUP
    with tempfile.TemporaryDirectory() as scratch:
        sessions = {new: open_session(model, prompts, new, Path(scratch)) for new in (1, NEW)}
    params = sessions[NEW].start_params(Console("quiet"))
    samplers = {new: session.sampler() for new, session in sessions.items()}
    asked = sessions[NEW].prompts.at(0, prompts)
    for turn in range(repeats + 1):
        for new, session in sessions.items():
            with jax.set_mesh(session.mesh):
                timed(str(new), sampled, session, samplers[new], params, asked, jax.random.key(turn))
    rates: dict[str, Any] = {}
    for clock, kind in enumerate(("wall", "cpu")):
        one, full = (timed.median(clock)[str(new)] for new in (1, NEW))
        rates[f"prefill_tok_s_{kind}"] = round(sequences * PROMPT / one)
        rates[f"decode_tok_s_{kind}"] = round(sequences * (NEW - 1) / (full - one))
        rates[f"generate_{kind}_s"] = [round(row[clock], 2) for row in timed.seconds[str(NEW)][1:]]
    each = sequences / rates["decode_tok_s_cpu"]
    return {"what": "sampler", "seqs": sequences, **rates, "cpu_ms_per_decode_step": round(1e3 * each, 1)}


def child_step(model: Path, prompts: int, steps: int) -> dict[str, Any]:
    """Go through steps of a run as `train.Run` does, with the peers' reward in place of a judge."""
    import jax
    import numpy as np

    from dar_jax.batches import Rewards
    from dar_jax.parallel import rows
    from dar_jax.run.session import Purpose
    from dar_jax.sampling import completions
    from dar_jax.terminal.console import Console

    with tempfile.TemporaryDirectory() as scratch:
        session = open_session(model, prompts, NEW, Path(scratch))
    learner, sampler, timed = session.learner, session.sampler(), Timed()

    def judged(rollouts: Any, asked: Any) -> Any:
        words = [completion.text.split() for completion in completions(rollouts, asked, session.tokenizer)]
        counts = np.array([sum(word.endswith("7") for word in each) for each in words], np.float32).reshape(-1, GROUP)
        return Rewards(**rows({"reward_PG": counts, "valid_PG": np.isfinite(counts)}, session.mesh))

    def step(state: Any, reference: Any, number: int) -> Any:
        asked = session.prompts.at(number * prompts, prompts)
        policy, key = learner.decode_params(state), session.key(Purpose.SAMPLES, number)
        rollouts = timed("generate", sampled, session, sampler, policy, asked, key)
        del policy
        rollouts = timed("nograd_logps", learner.recall, state, reference, rollouts)
        reward = timed("reward", judged, rollouts, asked)
        batch, _ = timed("weigh", learner.weigh, rollouts, reward)
        del rollouts
        part = learner.part(batch, learner.parts(batch, session.key(Purpose.MINIBATCHES, number))[0])
        return timed("forward_backward_update", learner.regress, state, part)[0]

    with jax.set_mesh(session.mesh):
        params = session.start_params(Console("quiet"))
        reference, state = learner.reference(params), learner.init(params)
        del params
        for number in range(steps + 1):
            state = timed("step", step, state, reference, number)
    sequences = prompts * GROUP
    wall, cpu = ({name: round(value, 2) for name, value in timed.median(clock).items()} for clock in (0, 1))
    return {
        "what": "step",
        "algo": "dar",
        "seqs": sequences,
        "micro": MICRO,
        "cpu_s": cpu,
        "wall_s": wall,
        "samples_per_cpu_s": round(sequences / cpu["step"], 3),
        "all_steps_cpu_s": [round(row[1], 1) for row in timed.seconds["step"]],
    }


def child_floor() -> dict[str, Any]:
    """Multiply as one decode step of M and one micro-batch of the peers do, by jax, in GFLOP a CPU second."""
    import jax
    import jax.numpy as jnp

    multiply, rates = jax.jit(jnp.matmul), {}
    for rows, inner, columns in ((64, 768, 32_000), (3072, 768, 3072)):
        left, right = jnp.ones((rows, inner)), jnp.ones((inner, columns))
        timed = Timed()
        for _ in range(10):
            timed("matmul", multiply, left, right)
        rates[f"{rows}x{inner}x{columns}"] = round(2e-9 * rows * inner * columns / timed.median(1)["matmul"], 1)
    return {"what": "floor", "gflop_per_cpu_s": rates}


def child(what: str, model: Path, size: str, repeats: int) -> None:
    own_core()
    if what == "floor":
        measured = child_floor()
    else:
        run = child_sampler if what == "sampler" else child_step
        measured = run(model, PROMPTS[what][size], repeats)
    row = {"peer": "dar_jax", "model": size, "dtype": "float32", "threads": 1, "new": NEW, **measured}
    print(json.dumps({**row, "peak_rss_gib": peak_gib(), "load1": round(os.getloadavg()[0], 2)}))


def commands(options: argparse.Namespace, what: str, size: str) -> dict[str, list[str] | None]:
    """Say how each contender is started; None where its interpreter is not given."""
    model, prompts = options.models / size, PROMPTS[what][size]
    common = ["--model", str(model), "--name", size, "--prompts", str(prompts), "--k", str(GROUP)]
    once = ["--warmup", "1", "--steps", str(options.repeats)]

    def peer(interpreter: Path | None, script: str, *more: str) -> list[str] | None:
        return [str(interpreter), str(options.scripts / script), *common, *more] if interpreter else None

    ours = [sys.executable, __file__, "--child", what, str(model), size, str(options.repeats)]
    if what == "sampler":
        repeat = ["--repeat", str(options.repeats)]
        return {
            "dar_jax": ours,
            "tunix": peer(options.tunix, "bench_tunix.py", "--what", "sampler", *repeat),
            "transformers": peer(options.trl, "bench_hf_generate.py", *repeat),
        }
    return {
        "dar_jax": ours,
        "tunix": peer(options.tunix, "bench_tunix.py", "--what", "grpo", *once),
        "trl": peer(options.trl, "bench_trl.py", "--algo", "grpo", "--warmup", "0", "--steps", "1"),
    }


def contenders(options: argparse.Namespace) -> Iterator[tuple[str, str, list[str]]]:
    """Go through who does what, in turns; say who is left out."""
    for _ in range(options.rounds):
        for size in options.sizes:
            for what in options.what:
                for name, command in commands(options, what, size).items():
                    if command is None:
                        print(f"{what} {size}: {name} left out: its interpreter is not given", flush=True)
                    else:
                        yield name, what, command


def start(name: str, command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{name}: ended with {done.returncode}: {' '.join(command)}\n{done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(lines[-1])
    print(json.dumps(row), flush=True)
    return row


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set each measure's medians side by side, ours over the best peer's as `ours_to_best_peer`."""
    table = []
    for what, size in sorted({(row["what"], row["model"]) for row in rows}, reverse=True):
        held = [row for row in rows if (row["what"], row["model"]) == (what, size)]
        measures: dict[str, Any] = {"peak_rss_gib": lambda row: row["peak_rss_gib"]}
        if what == "sampler":
            measures |= {name: lambda row, name=name: row[name] for name in ("decode_tok_s_cpu", "prefill_tok_s_cpu")}
        else:
            measures["step_cpu_s"] = lambda row: row["cpu_s"]["step"]
        for measure, of in measures.items():
            medians = {
                peer: statistics.median(of(row) for row in held if row["peer"] == peer)
                for peer in sorted({row["peer"] for row in held})
            }
            peers = [value for peer, value in medians.items() if peer != "dar_jax"]
            best = (max if "tok_s" in measure else min)(peers, default=None)
            ratio = round(medians["dar_jax"] / best, 2) if best else None
            table.append({"what": what, "model": size, "measure": measure, **medians, "ours_to_best_peer": ratio})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=Path, help="folder of the peers' scripts")
    parser.add_argument("--models", type=Path, help="folder that its make_models.py has written")
    parser.add_argument("--tunix", type=Path, help="Python with google-tunix")
    parser.add_argument("--trl", type=Path, help="Python with trl and transformers")
    parser.add_argument("--what", nargs="+", choices=tuple(PROMPTS), default=list(PROMPTS))
    parser.add_argument("--sizes", nargs="+", choices=("s", "m"), default=["s", "m"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2, help="measured repeats within a process, after compilation")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, model, size, repeats = options.child
        child(what, Path(model), size, int(repeats))
        return
    if not options.models or not (options.models / options.sizes[0] / "config.json").is_file():
        parser.error(f"--models {options.models}: no models there; write them by make_models.py of the peers' scripts")
    if not options.scripts and (options.tunix or options.trl):
        parser.error("--tunix and --trl need --scripts, the folder of their scripts")
    floor = start("floor", [sys.executable, __file__, "--child", "floor", str(options.models), "-", "1"])
    report: dict[str, Any] = {
        "command": " ".join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv)]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "floor_gflop_per_cpu_s": floor["gflop_per_cpu_s"],
        "compared": [],
        "rows": [],
    }
    for name, what, command in contenders(options):
        report["rows"].append({**start(name, command), "what": what})
        report["compared"] = compared(report["rows"])
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["compared"], indent=1))


if __name__ == "__main__":
    main()
