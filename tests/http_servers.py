"""Python's own HTTP servers on a loopback socket."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

COMPLETION = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "7"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
).encode()


@contextlib.contextmanager
def http_server(
    handler: type[BaseHTTPRequestHandler], kind: type[HTTPServer] = ThreadingHTTPServer, backlog: int = 5
) -> Iterator[str]:
    """Serve in a thread; give the URL."""
    server = type("Server", (kind,), {"request_queue_size": backlog, "daemon_threads": True})(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
