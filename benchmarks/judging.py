"""Throughput and CPU cost of judging beside plain loops over the same SDK, and what faults do to it. No network.

    python benchmarks/judging.py --litellm v-litellm/bin/python --output benchmarks/results/judging.json

Judgements of 3 KB with 20 log-probabilities, by real SDKs over loopback sockets, a process each: a server that answers
in 50 ms and does nothing else, then one contender after the other, in turns. Contenders:

    bare        sends ready-made bytes and reads no answer's content: what this server can give, the ceiling
    ours        `judge.submit` through the openai wire: sealing, ledger on disk, parsing, typed verdicts
    repeats     ours again, everything in the ledger
    openai      AsyncOpenAI.chat.completions.create in gather under a semaphore, the mean over the digits; nothing kept
    openai-aiohttp   the same with the SDK's aiohttp transport
    litellm     the same with litellm.acompletion, where its interpreter is given

CPU seconds are the contender's own process (all its threads) after a warm-up; of ours with the ledger's commits. They
hardly move on a shared machine, wall seconds do: `load1` is the load average at the start of each.

`faults` judges by `dar-jax serve` with a quarter of all calls failing, and compares what came with what the server
counted. `overlap` is benchmarks/overlap.py: how long the device waits for a judge of one second.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

LATENCY_S = 0.05
CONTENDERS = ("bare", "ours", "repeats", "openai", "openai-aiohttp", "litellm")
PROMPT = "Somebody wrote a long post about a thing, and this is one of its sentences. " * 30
COMPLETION = "This is a summary of it. " * 20
FAULTS = {"rate_limit": 0.05, "server_error": 0.05, "reset_during": 0.05, "cut_body": 0.05, "html": 0.03, "prose": 0.02}


def reply() -> bytes:
    """An answer of 7 as a server of OpenAI's protocol writes it, with its HTTP head."""
    nearness = [-1.0 - abs(i % 10 - 7) - 5 * (i // 10) for i in range(20)]
    top = [{"token": str(i % 10) + " " * (i // 10), "logprob": n, "bytes": [48]} for i, n in enumerate(nearness)]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "canned",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "7", "refusal": None},
                "finish_reason": "stop",
                "logprobs": {"content": [{**top[7], "top_logprobs": top}], "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 1, "total_tokens": 901},
    }
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


class Canned(asyncio.Protocol):
    """Answer every request of a connection with the same bytes, `LATENCY_S` after its last byte came."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.seen, self.missing = answer, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.seen += data
            head, end, body = self.seen.partition(b"\r\n\r\n")
            if not end:
                return
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self.missing, data, self.seen = int(length.split(b":")[1]), body, b""
        self.missing -= len(data)
        if not self.missing:
            asyncio.get_running_loop().call_later(LATENCY_S, self.send)

    def send(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.answer)


async def child_server() -> None:
    answer = reply()
    server = await asyncio.get_running_loop().create_server(lambda: Canned(answer), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def measured(work: Callable[[int], Any], count: int, in_flight: int) -> dict[str, Any]:
    """Time `work(count)` after a warm-up, in wall and process CPU seconds."""
    load = os.getloadavg()[0]
    work(2 * in_flight)
    wall, cpu = time.perf_counter(), time.process_time()
    work(count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "per_s": round(count / wall, 1),
        "cpu_s": round(cpu, 2),
        "cpu_s_per_1000": round(1000 * cpu / count, 2),
        "load1": round(load, 2),
    }


def gathered(ask: Callable[[int], Awaitable[float]], in_flight: int, count: int, close: Any = None) -> dict[str, Any]:
    """Measure a loop as people write it: gather under a semaphore, on one event loop for all calls."""

    async def all_of(count: int) -> None:
        gate = asyncio.Semaphore(in_flight)

        async def one(number: int) -> float:
            async with gate:
                return await ask(number)

        rewards = await asyncio.gather(*(one(number) for number in range(count)))
        assert all(7 < reward < 9 for reward in rewards) or rewards[0] == -1

    with asyncio.Runner() as runner:
        found = measured(lambda count: runner.run(all_of(count)), count, in_flight)
        if close:
            runner.run(close())
    return found


def messages(number: int) -> list[Any]:
    return [
        {"role": "system", "content": "Grade from 0 to 9, with one digit."},
        {"role": "user", "content": f"{PROMPT}\n\n{COMPLETION}{number}"},
    ]


ARGUMENTS: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "logprobs": True, "top_logprobs": 20}


def expected(reply: Any) -> float:
    import math

    mass = [0.0] * 10
    for other in reply.choices[0].logprobs.content[0].top_logprobs:
        if other.token.strip() in list("0123456789"):
            mass[int(other.token)] += math.exp(other.logprob)
    return sum((i + 1) * each for i, each in enumerate(mass)) / sum(mass)


def child_openai(url: str, count: int, in_flight: int, aiohttp: bool = False) -> dict[str, Any]:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    http: dict[str, Any] = {"http_client": DefaultAioHttpClient()} if aiohttp else {}
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", **http)

    async def ask(number: int) -> float:
        return expected(await client.chat.completions.create(model="m", messages=messages(number), **ARGUMENTS))

    return gathered(ask, in_flight, count, client.close)


def child_litellm(url: str, count: int, in_flight: int) -> dict[str, Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    async def ask(number: int) -> float:
        given = {"model": "openai/m", "api_base": f"{url}/v1", "api_key": "none", "messages": messages(number)}
        return expected(await litellm.acompletion(**given, **ARGUMENTS))

    return gathered(ask, in_flight, count)


def child_bare(url: str, count: int, in_flight: int) -> dict[str, Any]:
    port, length = int(url.rpartition(":")[2]), len(reply())
    body = json.dumps({"model": "m", "messages": messages(0), **ARGUMENTS}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(number: int) -> float:
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        await reader.readexactly(length)
        free.append((reader, writer))
        return -1

    return gathered(ask, in_flight, count)


def child_ours(url: str, count: int, in_flight: int, repeats: bool = False) -> dict[str, Any]:
    from dar_jax.judging import OpenAIJudge
    from dar_jax.records import Completion, Prompt

    settings = OpenAIJudge(model="m", base_url=f"{url}/v1", concurrency=in_flight)
    prompt = Prompt(id=0, text=PROMPT)

    def judge(judge: Any, count: int) -> None:
        texts = [f"{COMPLETION}{count} {number}" for number in range(count)]
        asked = [Completion(prompt=prompt, sample=i, text=t, token_count=9, ended=True) for i, t in enumerate(texts)]
        assert all(7 < verdict.reward < 9 for verdict in judge.submit(asked).result())

    with tempfile.TemporaryDirectory() as scratch, settings.open(Path(scratch) / "ledger.sqlite") as opened:
        if repeats:
            judge(opened, count)
        return measured(lambda count: judge(opened, count), count, in_flight)


CHILDREN: dict[str, Callable[[str, int, int], dict[str, Any]]] = {
    "bare": child_bare,
    "ours": child_ours,
    "repeats": lambda url, count, in_flight: child_ours(url, count, in_flight, repeats=True),
    "openai": child_openai,
    "openai-aiohttp": lambda url, count, in_flight: child_openai(url, count, in_flight, aiohttp=True),
    "litellm": child_litellm,
}


@contextlib.contextmanager
def server(command: list[str]) -> Iterator[str]:
    """Start a server process; give what it says first."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def run(interpreter: str, name: str, *arguments: object) -> dict[str, Any]:
    command = [interpreter, __file__, "--child", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: ended with {done.returncode}\n{done.stderr[-2000:]}")
    row = {"contender": name, **json.loads(done.stdout.splitlines()[-1])}
    print(json.dumps(row), flush=True)
    return row


def throughput(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let each contender judge, in turns; rows of one process each."""
    rows = []
    for _ in range(options.rounds):
        for in_flight in options.in_flight:
            for name in CONTENDERS:
                interpreter = options.litellm if name == "litellm" else sys.executable
                if interpreter is None:
                    print("litellm left out: its interpreter is not given", flush=True)
                    continue
                with server([sys.executable, __file__, "--child", "server"]) as url:
                    rows.append(run(str(interpreter), name, url, options.count, in_flight) | {"in_flight": in_flight})
    return rows


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set medians side by side: shares of the ceiling, and ours over each other's CPU cost."""
    table = []
    for in_flight in sorted({row["in_flight"] for row in rows}):
        held = [row for row in rows if row["in_flight"] == in_flight]

        def median(name: str, key: str, held: list[dict[str, Any]] = held) -> float:
            return statistics.median(row[key] for row in held if row["contender"] == name)

        for name in dict.fromkeys(row["contender"] for row in held):
            cpu, ours = median(name, "cpu_s_per_1000"), median("ours", "cpu_s_per_1000")
            table.append(
                {
                    "in_flight": in_flight,
                    "contender": name,
                    "per_s": median(name, "per_s"),
                    "share_of_ceiling": round(median(name, "per_s") / median("bare", "per_s"), 2),
                    "cpu_s_per_4000": round(4 * cpu, 2),
                    "times_our_cpu": round(cpu / ours, 2),
                }
            )
    return table


def child_faults(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """Judge by the scripted model behind faults; compare with the same rule in this process."""
    from dar_jax.chat.scripted.scorers import SCORERS
    from dar_jax.judging import OpenAIJudge
    from dar_jax.records import Completion, Prompt

    settings = OpenAIJudge(model="m", base_url=f"{url}/v1", concurrency=in_flight)
    texts = [f"{COMPLETION} number {i}" for i in range(count)]
    prompt = Prompt(id=0, text=PROMPT)
    asked = [Completion(prompt=prompt, sample=i, text=text, token_count=9, ended=True) for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as scratch, settings.open(Path(scratch) / "ledger.sqlite") as judge:
        wall, cpu = time.perf_counter(), time.process_time()
        verdicts = judge.submit(asked).result()
        wall, cpu, totals = time.perf_counter() - wall, time.process_time() - cpu, judge.totals
    truth = [SCORERS["overlap"](PROMPT, text) for text in texts]
    wrong = [
        verdict
        for verdict, level in zip(verdicts, truth, strict=True)
        if verdict.reward is not None and abs(verdict.reward - level) > 1e-6
    ]
    with urllib.request.urlopen(f"{url}/counts", timeout=10) as counts:
        delivered = json.load(counts)["answered"]
    return {
        "statuses": dict(Counter(verdict.status for verdict in verdicts).most_common()),
        "wrong_rewards": len(wrong),
        "calls_per_judgement": round(totals.calls / count, 2),
        "billed": totals.annotations,
        "delivered_by_server": delivered,
        "per_s": round(count / wall, 1),
        "cpu_s_per_1000": round(1000 * cpu / count, 2),
    }


def faults(options: argparse.Namespace) -> dict[str, Any]:
    """Judge against `dar-jax serve` while a quarter of all calls fail."""
    shares = "{" + ", ".join(f"{fault}: {share}" for fault, share in FAULTS.items()) + "}"
    command = [sys.executable, "-m", "dar_jax", "serve", "port=0", f"latency_s={LATENCY_S}", f"faults={shares}"]
    with server(command) as said:
        url = said.rpartition(" ")[2]
        return {"faults": FAULTS, "count": options.count, **run(sys.executable, "faults", url, options.count, 64)}


def overlap() -> dict[str, Any]:
    """Let whole runs wait for their judge, sampling at once and in chunks."""
    command = [sys.executable, str(Path(__file__).with_name("overlap.py"))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, help="Python with litellm")
    parser.add_argument("--count", type=int, default=4000, help="judgements a contender")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, *arguments = options.child
        if name == "server":
            asyncio.run(child_server())
        url, count, in_flight = arguments
        print(json.dumps((CHILDREN | {"faults": child_faults})[name](url, int(count), int(in_flight))))
        return
    rows = throughput(options)
    report = {
        "command": " ".join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv)]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "count": options.count,
        "latency_s": LATENCY_S,
        "compared": compared(rows),
        "faults": faults(options),
        "overlap": overlap(),
        "rows": rows,
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["compared"], indent=1))


if __name__ == "__main__":
    main()
