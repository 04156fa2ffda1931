import json
import math
import subprocess
import sys
import time

import pytest

from dar_jax.errors import DarError, SettingError
from dar_jax.runlog import RemoteFolder, RunFolder, bucket, layout, objects
from tests.fake_gcs import BRIEF


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """Checkpoints are not these tests' matter, nor are the packages for them."""
    monkeypatch.setattr(bucket, "prepare", lambda url: None)
    monkeypatch.setattr(bucket, "check", lambda url: None)


@pytest.fixture
def folder(url):
    made = RemoteFolder.create(url, "steps: 3\n")
    made._objects.create("checkpoints/0/saved", b"").finish()
    return made


def test_a_url_is_laid_out_in_objects_and_a_folder_in_files(tmp_path):
    assert layout("gs://bucket/x") is layout("file:///x") is RemoteFolder
    assert layout(tmp_path) is layout("runs/x") is layout("Qwen/Qwen3-0.6B") is RunFolder


def test_rows_are_read_back(folder):
    folder.write("metrics", [{"step": 1, "loss": 0.5, "bad": math.nan, "nested": {"inf": [math.inf]}}])
    folder.write("completions", [{"step": 1, "completion": "a line\u2028and a line\x85"}, {"step": 1}, {"step": 2}])
    assert folder.read("metrics") == [{"step": 1, "loss": 0.5, "bad": None, "nested": {"inf": [None]}}]
    rows = [{"step": 1, "completion": "a line\u2028and a line\x85"}, {"step": 1}, {"step": 2}]
    assert RemoteFolder(folder.path).read("completions") == rows
    assert folder.read("evaluations") == []


def test_a_step_is_an_object_and_the_order_is_that_of_the_steps(folder):
    for step in (9, 10, 2, 100):
        folder.write("metrics", [{"step": step}])
    assert [row["step"] for row in folder.read("metrics")] == [2, 9, 10, 100]
    assert folder._objects.under("metrics")[0] == "metrics/00000002.jsonl"


def test_contents_are_what_a_person_may_open(folder):
    folder.write("metrics", [{"step": 1}])
    folder.flush()
    assert folder.contents() == ["checkpoints/", "config.yaml", "metrics/", "owner.json"]


def test_the_policy_is_kept_and_fetched(folder):
    with folder.filling_policy() as place:
        (place / "config.json").write_text("{}")
        (place / "more").mkdir()
        (place / "more" / "words").write_text("the cat")
    assert not place.exists()
    fetched = RemoteFolder(folder.path).policy
    assert (fetched / "config.json").read_text() == "{}"
    assert (fetched / "more" / "words").read_text() == "the cat"


def test_a_resume_forgets_what_it_makes_again(folder):
    for step in (1, 2, 3):
        folder.write("metrics", [{"step": step}])
        folder.write("completions", [{"step": step, "row": row} for row in (0, 1)])
    folder.flush()
    again = RemoteFolder.reopen(folder.path)
    again.forget_after(1, completions=2)
    assert [row["step"] for row in again.read("metrics")] == [1]
    assert [row["step"] for row in again.read("completions")] == [1, 1, 2, 2]
    again.write("metrics", [{"step": 2, "anew": True}])
    assert again.read("metrics") == [{"step": 1}, {"step": 2, "anew": True}]


def test_a_place_in_use_is_left_alone(folder):
    for attempt in (RemoteFolder.check, lambda url: RemoteFolder.create(url, "steps: 9\n")):
        with pytest.raises(SettingError, match=f"{folder.path}: something is there already.*--resume"):
            attempt(folder.path)
    assert folder.config_yaml() == RemoteFolder(folder.path).config_yaml() == "steps: 3\n"


def test_nothing_to_resume_is_an_error(url):
    with pytest.raises(SettingError, match="nothing to resume"):
        RemoteFolder.reopen(url)
    assert not RemoteFolder(url).is_run()


def test_what_is_no_run_has_no_settings(url):
    with pytest.raises(SettingError, match=f"{url}/config.yaml: there is none"):
        RemoteFolder(url).config_yaml()


def test_checking_leaves_nothing(url):
    RemoteFolder.check(url)
    assert RemoteFolder(url)._objects.names() == []
    assert RemoteFolder.create(url, "").contents() == ["config.yaml", "owner.json"]


def test_settings_are_replaced(folder):
    again = RemoteFolder.reopen(folder.path)
    again.write_config("steps: 6\n")
    again.write_config("steps: 9\n")
    assert folder.config_yaml() == "steps: 9\n"


@pytest.mark.parametrize(("status", "way_out"), [(401, "credentials"), (403, "roles/"), (404, "no such bucket")])
def test_a_place_that_cannot_be_written_is_a_mistake_and_nothing_is_there(gcs, status, way_out):
    gcs.fault = lambda method, target: status if method == "POST" else None
    for attempt in (RemoteFolder.check, RemoteFolder.reopen):
        with pytest.raises(SettingError, match=rf"^gs://bucket/x/.*{way_out}"):
            attempt("gs://bucket/x")
    assert gcs.buckets["bucket"] == {}


def test_a_place_that_may_not_be_deleted_from_is_a_mistake(gcs):
    gcs.fault = lambda method, target: 403 if method == "DELETE" else None
    with pytest.raises(SettingError, match=r"roles/storage\.objectUser"):
        RemoteFolder.check("gs://bucket/x")


def test_of_two_runs_in_one_folder_the_earlier_stops(folder):
    folder.write("metrics", [{"step": 1}])
    folder.flush()
    later = RemoteFolder.reopen(folder.path)
    folder.flush()  # to look is not to take over
    later.forget_after(1, completions=1)
    with pytest.raises(DarError, match=rf"{folder.path}: another run has taken this folder over .*host.*--resume"):
        folder.flush()
    later.flush()


def test_of_two_resumes_at_once_one_goes_on(folder):
    one, other = RemoteFolder.reopen(folder.path), RemoteFolder.reopen(folder.path)
    one.forget_after(0, completions=0)
    with pytest.raises(DarError, match="another run"):
        other.forget_after(0, completions=0)


def test_rows_of_one_step_by_two_runs_are_noticed(folder):
    folder.write("metrics", [{"step": 1, "loss": 1}])
    folder.flush()
    late = RemoteFolder(folder.path)
    late.write("metrics", [{"step": 1, "loss": 2}])
    with pytest.raises(DarError, match=r"metrics/00000001.jsonl: another run has written it"):
        late.flush()


def test_a_step_does_not_wait_for_the_store(gcs):
    folder, gcs.delay_s = RemoteFolder.create("gs://bucket/x", ""), 0.5
    began = time.perf_counter()
    for step in range(1, 9):
        folder.write("metrics", [{"step": step}])
    assert time.perf_counter() - began < 0.4
    folder.flush()
    assert sum("metrics" in name for name in gcs.buckets["bucket"]) == 8


@pytest.mark.parametrize("how", [lambda f: f.write("metrics", [{"step": 2}]), lambda f: f.flush()])
def test_a_write_that_failed_is_raised_by_the_next(gcs, monkeypatch, how):
    monkeypatch.setattr(objects, "PATIENT", BRIEF)
    folder = RemoteFolder.create("gs://bucket/x", "")
    gcs.fault = lambda method, target: 503
    folder.write("metrics", [{"step": 1}])
    while not folder._under_way[0].done():
        time.sleep(0.01)
    gcs.fault = lambda method, target: None
    with pytest.raises(DarError, match=r"^gs://bucket/x/metrics/00000001.jsonl: .*; check the network"):
        how(folder)


def test_rows_are_lines_that_other_tools_read(gcs):
    folder = RemoteFolder.create("gs://bucket/x", "")
    folder.write("completions", [{"step": 1, "completion": "\u2028é"}])
    folder.flush()
    content, _ = gcs.buckets["bucket"]["x/completions/00000001.jsonl"]
    assert json.loads(content) == {"step": 1, "completion": "\u2028é"}
    assert "é".encode() in content


def test_a_folder_needs_no_store(tmp_path):
    """Neither TensorStore nor the bucket's client is imported for a run on a disk."""
    code = f"""if True:
        import sys
        from dar_jax.runlog import layout
        layout({str(tmp_path / "x")!r}).create({str(tmp_path / "x")!r}, "")
        assert not {{"tensorstore", "google.cloud.storage", "jax"}} & sys.modules.keys()
        layout("file://{tmp_path}/y").create("file://{tmp_path}/y", "")
        assert "tensorstore" in sys.modules and "jax" not in sys.modules
        """
    subprocess.run([sys.executable, "-c", code], check=True)
