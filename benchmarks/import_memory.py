"""Host memory of importing a checkpoint of more than 2 GB, beside loading all of it first.

    python benchmarks/import_memory.py --output benchmarks/results/import_memory.json

Makes a random bfloat16 checkpoint of several files in a temporary folder (2.1 GB, deleted afterwards), then imports it
in fresh processes: on one device and on eight virtual ones, as float32 and as bfloat16. The parent reads each child's
/proc/PID/status every 10 ms: `anon` is memory of its own, `file` mapped files. `local_mb` is what the imported
parameters take: on a CPU they lie in host memory, on an accelerator they would not. The promise is
`peak_over_start_mb` <= `local_mb` + `largest_file_mb`. Naive is safetensors' own load_file of every file, then one
device_put a parameter. Linux alone; about two minutes, 5 GB of disk and 10 GB of memory are enough. `seconds` are for
orientation: files are in the page cache, and the first row also pays for memory that the machine had not yet given out.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

MEGABYTE = 1e6
DECODER: dict[str, Any] = {
    "family": "qwen3",
    "vocab_size": 65_536,
    "width": 2048,
    "layers": 16,
    "heads": 16,
    "kv_heads": 8,
    "head_size": 128,
    "mlp_width": 6144,
    "max_positions": 4096,
    "norm_eps": 1e-6,
    "qk_norm": "head",
}


class Drawn:
    """A parameter that is drawn when it is fetched, a layer at a time: making the checkpoint takes no memory."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.shape, self.seed = shape, seed

    def __getitem__(self, layer: int) -> "Drawn":
        return Drawn(self.shape[1:], self.seed + layer)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.random.default_rng(self.seed).random(self.shape, np.float32)


def make(folder: Path) -> None:
    import jax

    from dar_jax import models
    from dar_jax.checkpoints import huggingface
    from dar_jax.models.rope import Rope

    config = models.DecoderConfig(**DECODER, rope=Rope(base=1e6))
    leaves, tree = jax.tree.flatten(models.abstract(config))
    drawn = [Drawn(leaf.shape, 1000 * number) for number, leaf in enumerate(leaves)]
    huggingface.save(folder, config, jax.tree.unflatten(tree, drawn), "bfloat16", shard_bytes=500_000_000)


def child(way: str, folder: Path, devices: int, dtype: str) -> None:
    """Import in this process, telling the parent when it begins and ends."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from dar_jax import models
    from dar_jax.checkpoints import huggingface
    from dar_jax.parallel import MeshShape, shardings

    config, mesh = huggingface.read_config(folder), MeshShape().build()
    places = shardings(models.abstract(config), models.logical_axes(config), mesh)
    jax.block_until_ready(jax.device_put(np.zeros(8), jax.devices()[0]))
    print("begin", flush=True)
    began = time.perf_counter()
    params = huggingface.load(folder, places, dtype)[1] if way == "streamed" else naive(folder, config, places, dtype)
    seconds = time.perf_counter() - began
    local = sum(
        size
        for leaf in jax.tree.leaves(params)
        for size in {str(shard.index): shard.data.nbytes for shard in leaf.addressable_shards}.values()
    )
    print(json.dumps({"seconds": round(seconds, 1), "local_mb": round(local / MEGABYTE)}), flush=True)


def naive(folder: Path, config: Any, places: Any, dtype: str) -> Any:
    import jax
    from safetensors.numpy import load_file

    from dar_jax.checkpoints.huggingface.layout import parts

    tensors = {name: array for file in sorted(folder.glob("*.safetensors")) for name, array in load_file(file).items()}
    found: dict[tuple[str, ...], list[np.ndarray]] = {}
    for part in parts(config):
        found.setdefault(part.path, []).append(part.layout.to_ours(tensors[part.name], part.shape))

    def put(path: Any, place: Any) -> jax.Array:
        layers = found[tuple(key.key for key in path)]
        array = np.stack(layers) if path[0].key == "layers" else layers[0]
        return jax.device_put(array.astype(dtype), place).block_until_ready()

    return jax.tree_util.tree_map_with_path(put, places)


def resident(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    anon, file = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) for name in ("RssAnon", "RssFile"))
    return anon * 1024 / MEGABYTE, file * 1024 / MEGABYTE


def measure(way: str, folder: Path, devices: int, dtype: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, str(folder), str(devices), dtype]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        out = process.stdout
        assert out is not None
        assert out.readline() == "begin\n"
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.append(out.readline()))
        reader.start()
        began, samples = time.perf_counter(), []
        while reader.is_alive():
            samples.append((time.perf_counter() - began, *resident(process.pid)))
            time.sleep(0.01)
        reader.join()
    assert process.returncode == 0
    start, totals = sum(samples[0][1:]), [anon + file for _, anon, file in samples]
    return {
        "way": way,
        "devices": devices,
        "dtype": dtype,
        **json.loads(lines[0]),
        "start_mb": round(start),
        "peak_over_start_mb": round(max(totals) - start),
        "peak_anon_mb": round(max(anon for _, anon, _ in samples)),
        "peak_file_mb": round(max(file for _, _, file in samples)),
        "curve_s_anon_file_mb": [
            (round(second, 2), round(anon), round(file)) for second, anon, file in samples[:: 1 + len(samples) // 40]
        ],
    }


def compare(output: Path | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        make(folder)
        files = [path.stat().st_size for path in folder.glob("*.safetensors")]
        asked = [("streamed", 1, "float32"), ("streamed", 8, "float32"), ("streamed", 1, "bfloat16")]
        asked += [("streamed", 8, "bfloat16"), ("naive", 8, "float32"), ("naive", 8, "bfloat16")]
        rows = [measure(way, folder, devices, dtype) for way, devices, dtype in asked]
    largest = max(files) / MEGABYTE
    for row in rows:
        row["peak_minus_local_mb"] = row["peak_over_start_mb"] - row["local_mb"]
        row["within_local_and_one_file"] = row["peak_minus_local_mb"] <= largest
    peaks = {(row["way"], row["devices"], row["dtype"]): row["peak_over_start_mb"] for row in rows}
    report = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "checkpoint_mb": round(sum(files) / MEGABYTE),
        "files": len(files),
        "largest_file_mb": round(largest),
        "naive_over_streamed_peak": {
            dtype: round(peaks["naive", 8, dtype] / peaks["streamed", 8, dtype], 2) for dtype in ("float32", "bfloat16")
        },
        "rows": rows,
    }
    shown = [{key: value for key, value in row.items() if not key.startswith("curve")} for row in rows]
    print(json.dumps(report | {"rows": shown}, indent=1))
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, folder, devices, dtype = options.child
        child(way, Path(folder), int(devices), dtype)
    else:
        compare(options.output)


if __name__ == "__main__":
    main()
