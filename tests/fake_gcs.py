"""A stand-in for Google Cloud Storage: as much of its JSON API as TensorStore, gcsfs and its own client use, behind a
real socket. https://cloud.google.com/storage/docs/json_api/v1
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from dar_jax.runlog.objects import Patience

BRIEF = Patience(retries=1, delay_s=0.01, longest_delay_s=0.01, wait_s=10)
NEEDS_GCSFS = pytest.mark.skipif(find_spec("gcsfs") is None, reason="needs gcsfs")
_PATH = re.compile(r"/(upload/|download/)?storage/v1/b/([^/]+)(/o/?)?(.+)?")


class FakeGCS(ThreadingHTTPServer):
    """Buckets in memory: name to (content, generation). `fault` may answer a request for `bucket`, its list `bucket/o`
    or an object `bucket/o/name` with a status, `delay_s` hold it up. A context manager; point clients to `environment`.
    """

    daemon_threads = True

    def __init__(self, *buckets: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock, self.generation = threading.Lock(), 0
        self.reset(*buckets)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.environment = {
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "STORAGE_EMULATOR_HOST": self.url,
            "GCE_METADATA_ROOT": "127.0.0.1:9",
            # gcsfs asks about zonal buckets elsewhere.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def reset(self, *buckets: str) -> None:
        self.buckets: dict[str, dict[str, tuple[bytes, int]]] = {bucket: {} for bucket in buckets}
        self.uploads: list[tuple[str, bytearray, dict[str, str]]] = []
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], int | None] = lambda method, target: None
        self.delay_s = 0.0

    def __enter__(self) -> "FakeGCS":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # head and body in one packet: none waits for the other's receipt
    server: FakeGCS

    def answer(self) -> None:
        parts = urlsplit(self.path)
        query, body = dict(parse_qsl(parts.query)), self.body()
        time.sleep(self.server.delay_s)
        action, bucket, objects, name = _PATH.fullmatch(parts.path).groups()
        wanted = unquote(name) if name else query.get("name", "")
        target = bucket + (objects or "").rstrip("/") + f"/{wanted}" * bool(wanted)
        self.server.requests.append((self.command, target))
        status = self.server.fault(self.command, target)
        if status or bucket not in self.server.buckets:
            return self.refuse(status or 404)
        with self.server.lock:
            if action == "upload/":
                return self.upload(bucket, query, body)
            if name:
                return self.object(bucket, unquote(name), query)
            if objects:
                return self.list(bucket, query)
            return self.reply(json.dumps({"name": bucket, "projectNumber": "1"}).encode())

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def object(self, bucket: str, name: str, query: dict[str, str]) -> None:
        there = self.server.buckets[bucket]
        if name not in there:
            return self.refuse(404)
        content, generation = there[name]
        if self.command == "DELETE":
            del there[name]
            return self.reply(b"", 204)
        if query.get("ifGenerationNotMatch") == str(generation):
            return self.reply(b"", 304)
        if query.get("alt") != "media":
            return self.reply(json.dumps(self.about(bucket, name)).encode())
        return self.part(content, {"x-goog-generation": str(generation)})

    def part(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.reply(content, 200, headers)
        first, end = int(wanted[1]), min(int(wanted[2] or len(content)) + 1, len(content))
        if first >= len(content):
            return self.refuse(416)
        span = {"Content-Range": f"bytes {first}-{end - 1}/{len(content)}"}
        return self.reply(content[first:end], 206, headers | span)

    def upload(self, bucket: str, query: dict[str, str], body: bytes) -> None:
        if "upload_id" in query:
            name, content, query = self.server.uploads[int(query["upload_id"])]
            content += body
            if self.headers["Content-Range"].endswith("/*"):
                return self.reply(b"", 308, {"Range": f"bytes=0-{len(content) - 1}"})
            return self.put(bucket, name, bytes(content), query)
        if query["uploadType"] == "resumable":
            self.server.uploads.append((json.loads(body)["name"], bytearray(), query))
            place = f"{self.server.url}{self.path.partition('?')[0]}?upload_id={len(self.server.uploads) - 1}"
            return self.reply(b"", 200, {"Location": place})
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            about, content = BytesParser().parsebytes(head + body).get_payload()
            return self.put(bucket, json.loads(about.get_payload())["name"], content.get_payload(decode=True), query)
        return self.put(bucket, query["name"], body, query)

    def put(self, bucket: str, name: str, content: bytes, query: dict[str, str]) -> None:
        there = self.server.buckets[bucket]
        _, generation = there.get(name, (b"", 0))
        if query.get("ifGenerationMatch", str(generation)) != str(generation):
            return self.refuse(412)
        self.server.generation += 1
        there[name] = content, self.server.generation
        return self.reply(json.dumps(self.about(bucket, name)).encode())

    def list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, end, limit = query.get("prefix", ""), query.get("endOffset"), int(query.get("maxResults", 1000))
        start = max(query.get("startOffset", ""), query.get("pageToken", ""))
        names = [name for name in sorted(self.server.buckets[bucket]) if name.startswith(prefix) and name >= start]
        names = [name for name in names if not end or name < end]
        heads = [prefix + "".join(name[len(prefix) :].partition(query.get("delimiter", "\0"))[:2]) for name in names]
        folders = sorted({head for head in heads if head.endswith(query.get("delimiter", "\0"))})
        items = [name for name, head in zip(names, heads, strict=True) if head not in folders]
        page = {"items": [self.about(bucket, name) for name in items[:limit]], "prefixes": folders}
        more = {"nextPageToken": items[limit]} if items[limit:] else {}
        self.reply(json.dumps(page | more).encode())

    def about(self, bucket: str, name: str) -> dict[str, str]:
        content, generation = self.server.buckets[bucket][name]
        times = dict.fromkeys(("updated", "timeCreated"), "2026-01-01T00:00:00.000Z")
        numbers = {"size": str(len(content)), "generation": str(generation), "metageneration": "1"}
        return {"kind": "storage#object", "bucket": bucket, "name": name, **numbers, **times}

    def refuse(self, status: int) -> None:
        self.reply(json.dumps({"error": {"code": status, "message": f"the store says {status}"}}).encode(), status)

    def reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass
