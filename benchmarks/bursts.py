"""Seconds a step of judgements takes where the server is Python's http.server, with 5 connections in its backlog.

    python benchmarks/bursts.py --steps 12

Each answer takes the server a millisecond; 64 questions are asked at once. `ThreadingHTTPServer` with HTTP/1.1 keeps
connections, with HTTP/1.0 every question needs a new one, and `HTTPServer` serves one connection after the other.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

from dar_jax.judging import OpenAIJudge
from dar_jax.records import Completion, Prompt

KINDS = ((ThreadingHTTPServer, "HTTP/1.1"), (ThreadingHTTPServer, "HTTP/1.0"), (HTTPServer, "HTTP/1.0"))
ANSWER = json.dumps(
    {"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "7"}}]}
).encode()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.001)
        self.send_response(200)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        return


def measured(kind: type[HTTPServer], protocol: str, steps: int, concurrency: int) -> dict[str, object]:
    handler = type("Handler", (Handler,), {"protocol_version": protocol})
    server = type("Server", (kind,), {"request_queue_size": 5, "daemon_threads": True})(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, seconds = f"http://127.0.0.1:{server.server_address[1]}/v1", []
    settings = OpenAIJudge(model="m", base_url=url, mode="single", concurrency=concurrency)
    with tempfile.TemporaryDirectory() as scratch, settings.open(Path(scratch) / "ledger.sqlite") as judge:
        for step in range(steps):
            prompt = Prompt(id=0, text="p")
            texts = [f"completion {step} {i}" for i in range(concurrency)]
            asked = [
                Completion(prompt=prompt, sample=i, text=t, token_count=3, ended=True) for i, t in enumerate(texts)
            ]
            begun = time.perf_counter()
            assert all(verdict.status == "ok" for verdict in judge.submit(asked).result())
            seconds.append(time.perf_counter() - begun)
    server.shutdown()
    ordered = sorted(seconds)
    return {
        "server": f"{kind.__name__}, {protocol}",
        "p50_s": round(statistics.median(ordered), 2),
        "p95_s": round(ordered[max(0, -(-95 * steps // 100) - 1)], 2),
        "max_s": round(ordered[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    for kind, protocol in KINDS:
        print(json.dumps(measured(kind, protocol, options.steps, options.concurrency)), flush=True)


if __name__ == "__main__":
    main()
