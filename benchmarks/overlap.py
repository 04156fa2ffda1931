"""How long the device waits for a judge of one second, with a step sampled at once and in chunks. No network.

    python benchmarks/overlap.py

A run of a small policy on this CPU, its judge `dar-jax serve latency_s=1` in a process of its own. How many questions
the judge takes at once is chosen after a first run, so that judging a whole step takes as long as sampling and scoring
it, which is all that it can run beside. The waiting share is `seconds/judge_wait` over `seconds/step`, of the
steps after the first, which compiles. Prints the timeline of the last step of each, and one line of JSON.
"""

import contextlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHUNKS, STEPS, LATENCY_S = 8, 4, 1.0
# A policy that takes seconds to sample a step: random weights never end a completion early.
POLICY = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
    "hidden_act": "silu",
}
PROMPTS, GROUP = 32, 4


def write_run(folder: Path) -> Path:
    """Write a policy, prompts and the settings that all runs share."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "assets" / "minitldr-sft")
    tokenizer.save_pretrained(folder / "policy")
    (folder / "policy" / "config.json").write_text(json.dumps(POLICY | {"vocab_size": len(tokenizer)}))
    rows = [{"prompt": f"Post number {n}: " + "one more sentence of a post. " * 4} for n in range(PROMPTS * STEPS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "run.yaml"
    settings = {
        "policy": {"path": str(folder / "policy"), "weights": "random"},
        "data": {"path": str(folder / "prompts.jsonl")},
        "steps": STEPS,
        "prompts_per_step": PROMPTS,
        "group_size": GROUP,
        "sampling": {"max_prompt_length": 96, "max_completion_length": 64},
        "learning": {"compute_dtype": "float32", "micro_batch_size": 16},
        "mesh": {"devices": 1},
        "display": {"mode": "quiet"},
    }
    file.write_text(json.dumps(settings))
    return file


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the judge in a process of its own; give its address."""
    command = [sys.executable, "-m", "dar_jax", "serve", "port=0", f"latency_s={LATENCY_S}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().split("OpenAI at ")[1].split(",")[0]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def run(file: Path, name: str, *overrides: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make a run; return its metrics, and the timeline of its last step."""
    folder = file.parent / name
    command = [sys.executable, "-m", "dar_jax", "train", str(file), "--run-dir", str(folder), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: ended with {done.returncode}\n{done.stderr[-2000:]}")
    read = {log: [json.loads(line) for line in (folder / f"{log}.jsonl").open()] for log in ("metrics", "timeline")}
    return read["metrics"][1:], [row for row in read["timeline"] if row["step"] == STEPS]


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def drawn(timeline: list[dict[str, Any]], width: int = 72) -> str:
    """Draw the spans of a step below each other."""
    end = max(row["to_s"] for row in timeline)
    lines = []
    for row in timeline:
        first, last = (round(row[key] / end * width) for key in ("from_s", "to_s"))
        bar = " " * first + "#" * max(1, last - first)
        lines.append(f"{row['phase']:<11}{bar:<{width + 1}}{row['from_s']:6.2f} to {row['to_s']:6.2f} s")
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, served() as url:
        file = write_run(Path(scratch))
        free, _ = run(file, "free", "judge={name: scripted}", f"sampling.chunks={CHUNKS}")
        beside_s = mean(free, "seconds/sample") + mean(free, "seconds/recall")
        at_once = math.ceil(PROMPTS * GROUP * LATENCY_S / beside_s)
        judge = f"judge={{name: openai, model: scripted, base_url: '{url}', concurrency: {at_once}}}"
        found = {}
        for name, chunks in (("at once", 1), ("in chunks", CHUNKS)):
            rows, timeline = run(file, name, judge, f"sampling.chunks={chunks}")
            seconds = {phase: mean(rows, f"seconds/{phase}") for phase in ("sample", "recall", "judge_wait", "step")}
            lines = drawn(timeline).split("\n")
            found[name] = {
                "chunks": chunks,
                **{f"{phase}_s": round(value, 2) for phase, value in seconds.items()},
                "waiting_share": round(seconds["judge_wait"] / seconds["step"], 3),
                "timeline": lines,
            }
            print(f"{name}: waits {found[name]['waiting_share']:.1%} of a step", *lines, sep="\n")
    print(
        json.dumps({"latency_s": LATENCY_S, "judged_at_once": at_once, "judgements_a_step": PROMPTS * GROUP, **found})
    )


if __name__ == "__main__":
    main()
