import errno
import resource

import pytest

from dar_jax.chat.connections import out_of_files, room_for_connections
from dar_jax.judging import OpenAIJudge, PanelJudge


@pytest.fixture
def limited(monkeypatch):
    """Fake the system's limits of open files; return them and the limits that were set."""
    limits, asked = [256, 4096], []
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    monkeypatch.setattr("dar_jax.chat.connections._open_files", lambda: 20)
    return limits, asked


def test_the_soft_limit_is_raised_to_the_hard_limit(limited):
    assert room_for_connections() == 4096 - 20 - 128
    assert limited[1] == [(4096, 4096)]


def test_a_refused_raise_keeps_the_soft_limit(limited, monkeypatch):
    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert room_for_connections() == 256 - 20 - 128


def test_a_judge_lowers_its_concurrency_to_the_open_files_and_reports_it(limited, tmp_path):
    limited[0][1] = 256
    wire = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    with OpenAIJudge(**wire, concurrency=100).open(tmp_path / "a.sqlite") as judge:
        assert judge.remarks == ()
    with OpenAIJudge(**wire, concurrency=300).open(tmp_path / "b.sqlite") as judge:
        (remark,) = judge.remarks
        assert judge._askers[0].terms.concurrency == 108
    assert "got 300, but this process may open 108 more files" in remark
    other = OpenAIJudge(model="n", base_url=wire["base_url"], concurrency=60)
    panel = PanelJudge(judges=(OpenAIJudge(**wire, concurrency=300), other))
    with panel.open(tmp_path / "c.sqlite") as judge:
        assert [asker.terms.concurrency for asker in judge._askers] == [90, 18]


def test_out_of_files_is_found_in_the_causes_of_an_error():
    error = RuntimeError("cannot connect")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert out_of_files(error)
    assert not out_of_files(OSError(errno.ECONNREFUSED, "refused"))
