"""The rate of new connections, on a clock that jumps to the next timer, and over real sockets."""

import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import pytest

from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.ramp import Ramp
from dar_jax.chat.wire import Request
from dar_jax.records import Message
from tests.chat.test_limits import Skipping
from tests.http_servers import COMPLETION, http_server

REQUEST = Request(messages=(Message(role="user", content="?"),), max_tokens=1)


def on_a_jumping_clock(work):
    with asyncio.Runner(loop_factory=Skipping) as runner:
        return runner.run(work)


async def opened(ramp, count, connect_s=0.01, answer_s=0.02):
    """Open `count` connections at once; return the time at which each was open."""
    now, times = asyncio.get_running_loop().time, []

    async def one():
        opening = await ramp.enter()
        await asyncio.sleep(connect_s)
        opening.connected()
        times.append(now())
        await asyncio.sleep(answer_s)
        opening.answered()

    await asyncio.gather(*(one() for _ in range(count)))
    return times


def test_the_number_of_concurrent_connects_doubles():
    ramp = Ramp()
    times = on_a_jumping_clock(opened(ramp, 64))
    rounds = [times.count(each) for each in sorted(set(times))]
    assert rounds[:3] == [4, 8, 16]
    assert times[-1] < 0.2


def test_slow_answers_do_not_delay_connections():
    ramp = Ramp()
    assert on_a_jumping_clock(opened(ramp, 64, answer_s=30.0))[-1] < 1.0


def test_a_distant_server_is_not_late():
    """All connections take two seconds, so that none is late."""
    ramp = Ramp()
    on_a_jumping_clock(opened(ramp, 64, connect_s=2.0))
    assert ramp.width > 32


def test_late_connections_halve_the_width_once():
    async def late():
        ramp = Ramp()
        await opened(ramp, 28)
        before = ramp.width
        await opened(ramp, 8, connect_s=1.5)
        return before, ramp.width

    before, after = on_a_jumping_clock(late())
    assert after == pytest.approx(before / 2, abs=1)


def test_every_end_of_a_connection_frees_its_place():
    async def ended():
        ramp = Ramp()
        for end in ("answered", "failed", "given_up") * 8:
            getattr(await ramp.enter(), end)()
        waiting = [asyncio.create_task(ramp.enter()) for _ in range(9)]
        await asyncio.sleep(0)
        waiting[-1].cancel()
        for opening in [task for task in waiting if task.done()]:
            opening.result().answered()
        await asyncio.sleep(0.01)
        return await opened(ramp, 20)

    assert len(on_a_jumping_clock(asyncio.wait_for(ended(), 60))) == 20


class Counting(BaseHTTPRequestHandler):
    """Counts accepted connections."""

    connections = 0

    def setup(self):
        type(self).connections += 1
        super().setup()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(COMPLETION)))
        self.end_headers()
        self.wfile.write(COMPLETION)

    def log_message(self, *_):
        return


@pytest.mark.parametrize(("kind", "protocol"), [(ThreadingHTTPServer, "HTTP/1.1"), (HTTPServer, "HTTP/1.0")])
def test_a_burst_opens_few_connections_at_once_and_keeps_them(kind, protocol):
    """http.server has a backlog of 5: further connections at once would wait 1 to 60 s for TCP to retry."""
    handler = type("Handler", (Counting,), {"protocol_version": protocol})
    widths = []

    async def steps(url):
        chat = OpenAIWire(model="m", base_url=f"{url}/v1").connect(64)
        begin = chat.ramp.enter

        async def enter():
            widths.append(chat.ramp.width)
            return await begin()

        chat.ramp.enter = enter
        try:
            for _ in range(2):
                await asyncio.gather(*(chat.ask(REQUEST, 30.0) for _ in range(64)))
        finally:
            await chat.close()
        return chat.ramp.most_at_once

    with http_server(handler, kind) as url:
        most = asyncio.run(steps(url))
    assert most < 64
    assert widths[0] == 4
    assert handler.connections <= (64 if protocol == "HTTP/1.1" else 2 * 64)


def test_a_refused_connection_is_not_an_attempt():
    async def refused():
        chat = OpenAIWire(model="m", base_url="http://127.0.0.1:9/v1").connect(8)
        try:
            return await asyncio.gather(*(chat.ask(REQUEST, 5.0) for _ in range(8)), return_exceptions=True)
        finally:
            await chat.close()

    assert {type(each).__name__ for each in asyncio.run(refused())} == {"NotConnected"}
