"""Plans of a small run, compiled by the TPU's own compiler."""

import dataclasses
import json
import re

import pytest

from dar_jax.cli.main import main
from dar_jax.planning import make_plan, topologies, topology
from tests.nano import write_policy
from tests.tpu_aot.small import small_run, write_run

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: pip install 'dar-jax[tpu]'")


def silent(_):
    """Tell nobody."""


@pytest.fixture
def nano_run(tmp_path):
    write_policy(tmp_path / "nano")
    small = {"sampling": {"max_prompt_length": 16, "max_completion_length": 8}, "prompts_per_step": 8}
    path = write_run(tmp_path, **small, learning={"micro_batch_size": 8})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"policy": {"path": str(tmp_path / "nano")}}))
    return path


def test_a_plan_says_what_a_run_takes(nano_run, capsys):
    assert main(["plan", str(nano_run), "steps=10", "--topology", "v5e:2x4", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    assert (plan["chips"], plan["mesh"]) == (8, {"data": 1, "fsdp": 4, "tensor": 2})
    programs = {each["name"]: each for each in plan["programs"]}
    assert {"recall": 2, "regress": 4}.items() <= {name: each["calls"] for name, each in programs.items()}.items()
    for each in programs.values():
        taken, beside = each["bytes"], each["resident_bytes"]
        own = taken["arguments"] + taken["outputs"] - taken["aliased"] + taken["temporaries"] + taken["code"]
        assert each["needed_bytes"] == own + sum(beside.values())
        assert each["unknown_loops"] == []
        assert each["seconds"]["bound"] == max(each["seconds"].values())
    # Every completion may be cut short, none grows longer: the first token comes of the prompt.
    (decoding,) = [each["open_loop"] for each in programs.values() if each["open_loop"]]
    assert decoding["trips"] == 8 - 1
    assert programs["regress"]["flops"] > programs["recall"]["flops"] / 4 > 0
    assert plan["judge"]["calls"] == 32
    assert plan["run"]["dollars"] == pytest.approx(10 * plan["judge"]["dollars"])
    assert plan["run"]["hours"] == pytest.approx(10 * plan["step"]["seconds"] / 3600)
    assert plan["step"]["seconds"] >= plan["step"]["device_s"]


@pytest.mark.slow
def test_a_plan_is_shown_and_a_warning_where_chips_compute_the_same(nano_run, capsys):
    assert main(["plan", str(nano_run), "learning.micro_batch_size=2", "--topology", "v5e:2x4"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "v5e:2x4: 8 chips of 15.75 GiB, mesh data 1, fsdp 4, tensor 2" in shown
    assert "learning.micro_batch_size: 2 rows cannot be sharded over the 4 chips" in shown
    assert "It fits: at most" in shown
    assert "$0.0" in shown


@pytest.mark.parametrize(
    ("slice_", "told"),
    [("v5e:3x3", "unknown slice.*v5e: 1x1, 2x2"), ("v5e:1x1", r"mesh: .* product is 1")],
)
def test_what_cannot_be_planned_is_one_line_and_status_2(nano_run, slice_, told, capsys):
    assert main(["plan", str(nano_run), "--topology", slice_]) == 2
    told_us = capsys.readouterr().err.strip()
    assert len(told_us.splitlines()) == 1
    assert re.search(told, told_us)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5p:2x2x1", "v6e:2x2"])
def test_every_generation_compiles(name, tmp_path):
    plan = make_plan(small_run(tmp_path), topology(name), silent, only=("sample", "recall"))
    assert plan.fits
    assert plan.topology.chips == 4


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_the_ways_out(tmp_path, monkeypatch, capsys):
    """On chips so small that AdamW's moments are too much, and Adafactor's are not."""
    run = {"learning": {"micro_batch_size": 4, "optimizer": {"name": "adamw"}}}
    whole = make_plan(small_run(tmp_path, **run), topology("v5e:2x4"), silent)
    limit = whole.largest.needed - whole.holdings["optimizer"] // 2
    chip = dataclasses.replace(topologies.CHIPS["v5e"], hbm_bytes=limit)
    monkeypatch.setitem(topologies.CHIPS, "v5e", chip)
    path = write_run(tmp_path, **run)
    assert main(["plan", str(path), "--topology", "v5e:2x4", "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert not plan["fits"]
    settings, larger = plan["ways_out"]
    assert (settings["settings"], settings["topology"]) == (["learning.optimizer.name=adafactor"], "v5e:2x4")
    assert (larger["settings"], larger["topology"]) == (["learning.micro_batch_size=8"], "v5e:4x4")
    assert settings["fits"]
    assert larger["fits"]
    assert max(settings["needed"], larger["needed"]) <= limit
