"""TensorStore's drivers for real: files, and Google Cloud Storage's API behind a socket."""

import dataclasses
import os
import re
import subprocess
import sys
import time

import pytest

from dar_jax.errors import DarError, SettingError
from dar_jax.runlog import objects
from dar_jax.runlog.objects import Objects
from tests.fake_gcs import BRIEF


def test_what_is_written_is_read(url):
    store = Objects(url)
    store.create("a", b"one").finish()
    assert store.read("a")[0] == b"one"
    assert store.read("b")[0] is None
    assert Objects(f"{url}/").read("a")[0] == b"one"


def test_names_come_in_order_and_by_folder(url):
    store = Objects(url)
    for name in ("m/10", "m/09", "m0", "ma/1", "m/2"):
        store.create(name, name.encode()).finish()
    assert store.names() == ["m/09", "m/10", "m/2", "m0", "ma/1"]
    assert store.under("m") == ["m/09", "m/10", "m/2"]
    assert store.names("m/10", "m0") == ["m/10", "m/2"]
    assert dict(store.read_each(["m/2", "gone", "m/09"])) == {"m/2": b"m/2", "m/09": b"m/09"}
    store.delete(["m/2", "gone"])
    assert store.under("m") == ["m/09", "m/10"]


def test_a_long_list_comes_page_by_page(gcs):
    gcs.buckets["bucket"] = {f"runs/x/m/{i:05}": (b"", 1) for i in range(2500)}
    assert len(Objects("gs://bucket/runs/x").under("m")) == 2500
    assert len(gcs.requests) == 3


def test_only_one_creates_an_object(url):
    mine, theirs = Objects(url), Objects(url)
    mine.create("a", b"mine").finish()
    with pytest.raises(DarError, match=rf"{url}/a: another run has written it meanwhile; .*--resume"):
        theirs.create("a", b"theirs").finish()
    assert mine.read("a")[0] == b"mine"


def test_a_write_that_was_made_already_is_made(url):
    """Its answer was lost, and the store's client repeated it."""
    store = Objects(url)
    first = store.create("a", b"same").finish()
    assert store.create("a", b"same").finish() == first


def test_only_the_generation_that_was_seen_is_replaced(url):
    store = Objects(url)
    first = store.create("a", b"1").finish()
    second = store.replace("a", b"2", first).finish()
    assert second != first
    with pytest.raises(DarError, match="another run"):
        store.replace("a", b"3", first).finish()
    assert store.read("a") == (b"2", second)


def test_writing_does_not_wait(gcs):
    store, gcs.delay_s = Objects("gs://bucket/runs/x"), 0.5
    began = time.perf_counter()
    under_way = [store.create(f"{i}", b"") for i in range(8)]
    assert time.perf_counter() - began < 0.4
    assert not under_way[0].done()
    for writing in under_way:
        writing.finish()
    assert all(writing.done() for writing in under_way)


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        (401, "gcloud auth application-default login"),
        (403, r"roles/storage\.objectUser"),
        (404, "no such bucket"),
        (503, "check the network"),
    ],
)
def test_what_the_store_refuses_is_one_line_with_a_way_out(gcs, status, way_out):
    gcs.fault = lambda method, target: status
    writing = Objects("gs://bucket/runs/x", BRIEF).create("a", b"")
    with pytest.raises(DarError, match=rf"^gs://bucket/runs/x/a: .*the store says {status}; .*{way_out}") as caught:
        writing.finish()
    assert "\n" not in str(caught.value)


def test_a_store_that_nobody_answers_for_is_said(gcs, monkeypatch):
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", "http://127.0.0.1:9")
    with pytest.raises(DarError, match=r"gs://bucket/runs/x: .*connect.*; check the network"):
        Objects("gs://bucket/runs/x", BRIEF).names()


def test_a_store_that_never_answers_is_said(gcs):
    store, gcs.delay_s = Objects("gs://bucket/runs/x", dataclasses.replace(BRIEF, wait_s=0.1)), 1
    with pytest.raises(DarError, match=r"^gs://bucket/runs/x/a: no answer in 0\.1 s; check the network"):
        store.create("a", b"").finish()


def test_credentials_that_are_none_are_said(gcs, tmp_path):
    """In a process of its own: TensorStore looks for credentials once."""
    (tmp_path / "key.json").write_text("{}")
    code = "from dar_jax.runlog.objects import Objects; Objects('gs://bucket/runs/x').create('a', b'').finish()"
    environment = {**os.environ, "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"credentials file: .*key\.json; .*gcloud auth application-default login", said.stderr)


def test_a_fault_in_passing_is_none(gcs, monkeypatch):
    monkeypatch.setattr(objects, "PATIENT", dataclasses.replace(BRIEF, retries=5))
    statuses = iter([503, 429, 500])
    gcs.fault = lambda method, target: next(statuses, None)
    Objects("gs://bucket/runs/x").create("a", b"there").finish()
    assert gcs.buckets["bucket"]["runs/x/a"][0] == b"there"


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DarError, match=r"Not a directory; choose a place that can be read and written"):
        Objects(f"file://{tmp_path}/file").create("a", b"").finish()


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket", "gs:///x", "file://x", "gs://B A D/x"])
def test_no_place_for_a_run_is_said(url):
    with pytest.raises(SettingError, match=rf"{url}: .*expected a folder, gs://BUCKET/PATH or file:///PATH"):
        Objects(url)
