"""A reader that leaves: the process goes on and ends as it would have."""

import os
import subprocess
import sys

import pytest

from dar_jax.terminal.console import Console, Sample
from dar_jax.terminal.screen import tolerant


@pytest.fixture
def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as file:
        yield file


@pytest.mark.parametrize("mode", ["rich", "plain", "json", "quiet"])
def test_a_console_without_a_reader_goes_quiet(mode, broken_pipe):
    console = Console(mode, broken_pipe)
    for _ in range(2):
        console.start(3, 0)
        console.note("a note")
        console.warn("a warning")
        console.step(1, 3, {"loss": "0.5"}, {"loss": 0.5})
        console.samples("samples", [Sample(prompt="p", completion="c", reward=None, weight=0.0)])
        with console.reading("a model") as tell:
            tell(1, 2)
        with console.counting("judged", 10) as tell:
            tell(4, "more")
        console.finish()


def test_a_full_disk_behind_the_screen_ends_nothing():
    with open("/dev/full", "w") as file:
        Console("json", file).warn("nobody reads this")


def test_what_the_encoding_lacks_is_escaped():
    reader, writer = os.pipe()
    with open(writer, "w", encoding="latin-1") as file:
        Console("plain", file).note("né 文")
    assert os.read(reader, 100) == "né \\u6587\n".encode("latin-1")
    os.close(reader)


def test_a_fault_of_the_program_is_no_lost_reader(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(AttributeError):
        tolerant(file).write(None)


@pytest.mark.parametrize("program", ["main(['--help'])", "print('x' * 100_000) or guarded(lambda: 3)"])
def test_a_command_whose_reader_left_ends_with_its_own_status(program, broken_pipe):
    code = f"import sys; from dar_jax.cli.main import *\nwith tolerant_streams(): sys.exit({program})"
    ended = subprocess.run([sys.executable, "-c", code], stdout=broken_pipe, stderr=subprocess.PIPE, check=False)
    assert ended.stderr == b""
    assert ended.returncode == (3 if "guarded" in program else 0)
