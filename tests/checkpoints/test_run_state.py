"""What is saved comes back to the bit, wherever it is to lie."""

import json
import os
import resource
import shutil
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import parallel
from dar_jax.batches import Batch, Inputs
from dar_jax.checkpoints import Checkpointing, DamagedCheckpoint, RunState, load_params, saved_numbers
from dar_jax.checkpoints.checksums import checksums
from dar_jax.errors import DarError
from dar_jax.parallel import MeshShape, to_host
from dar_jax.runlog import bucket
from tests.fake_gcs import NEEDS_GCSFS

LAYOUT = {"up": ("layers", "width", "mlp"), "norm": ("width",)}
MANY, ONE = MeshShape(data=2, tensor=2), MeshShape(devices=1)
PROGRESS = {"step": 3, "update": 1, "measured": {"rewards/mean": 0.1 + 0.2}, "updates": [{"loss": 1e-17}]}


def trees(mesh, seed=0):
    """Draw parameters and an optimizer state of nested, named and bare parts on a mesh."""
    random = np.random.default_rng(seed)
    params = {"up": random.normal(size=(2, 8, 4)).astype(np.float32), "norm": random.normal(size=8).astype(np.float32)}
    params = jax.device_put(params, parallel.shardings(params, LAYOUT, mesh))
    factors = {"000": random.normal(size=(2, 8)).astype(np.float32)}
    state = (({"count": np.int32(5)}, factors), (), jnp.int32(7))
    return {"params": params, "optimizer": (parallel.replicated(state, mesh), parallel.replicated(np.int32(9), mesh))}


def batch(mesh, sampling=True):
    random = np.random.default_rng(4)
    logprob_ERT = random.normal(size=(8, 1, 3)).astype(np.float32)
    made = Batch(
        inputs_ER=Inputs(
            token_BT=random.integers(0, 64, (8, 1, 6)).astype(np.int32),
            mask_BS=random.integers(0, 2, (8, 1, 6)).astype(bool),
        ),
        mask_completion_ERT=random.integers(0, 2, (8, 1, 3)).astype(bool),
        weight_E=random.uniform(0, 20, 8).astype(np.float32),
        mask_E=random.integers(0, 2, 8).astype(bool),
        sampling_logprob_ERT=logprob_ERT if sampling else None,
    )
    return parallel.rows(made, mesh)


def abstract(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def assert_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(*map(jax.tree.leaves, (to_host(one), to_host(other))), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def mesh():
    return MANY.build()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, mesh):
    """A folder with one checkpoint, saved in the middle of a batch's updates on eight devices."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with RunState(folder, keep=3) as runs:
        runs.save(13, trees(mesh), PROGRESS, batch(mesh))
    return folder


@pytest.mark.parametrize("shape", [MANY, ONE], ids=["the same mesh", "one device"])
def test_resume_skips_unconsumed_data_when_several_updates_share_a_batch(shape, saved, mesh):
    """State, progress and the batch under way come back, onto another mesh too."""
    target = shape.build()
    with RunState(saved, keep=3) as runs:
        assert runs.latest == 13
        found, progress, under_way = runs.load(13, abstract(trees(target, seed=1)), target)
    assert_identical(found, trees(mesh))
    assert_identical(under_way, batch(mesh))
    assert progress == PROGRESS
    for leaf, wanted in zip(*map(jax.tree.leaves, ((found, under_way), (trees(target), batch(target)))), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


@pytest.mark.parametrize("shape", [MANY, ONE], ids=["the same mesh", "one device"])
def test_parameters_alone_can_be_loaded(shape, saved, mesh):
    assert saved_numbers(saved) == [13]
    target = shape.build()
    params = load_params(saved, 13, abstract(trees(target)["params"]))
    assert_identical(params, trees(mesh)["params"])
    places = [jax.tree.map(lambda leaf: leaf.sharding, tree) for tree in (params, trees(target)["params"])]
    assert places[0] == places[1]


def test_reading_parameters_disturbs_no_run_that_is_saving(saved, mesh, tmp_path):
    """Trap: what opens the folder as a run does takes a checkpoint being written for one that a crash left."""
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    under_way = folder / "17.orbax-checkpoint-tmp"
    shutil.copytree(folder / "13", under_way)
    before = sorted(folder.rglob("*"))
    assert saved_numbers(folder) == [13]
    load_params(folder, 13, abstract(trees(mesh)["params"]))
    assert sorted(folder.rglob("*")) == before


def test_a_folder_without_a_checkpoint_has_no_latest(tmp_path):
    with RunState(tmp_path / "checkpoints", keep=3) as runs:
        assert runs.latest is None


def test_between_batches_there_is_none_and_absent_fields_stay_absent(tmp_path, mesh):
    with RunState(tmp_path, keep=3) as runs:
        runs.save(4, trees(mesh), {"step": 1}, None)
        runs.save(5, trees(mesh), {"step": 1}, batch(mesh, sampling=False))
    with RunState(tmp_path, keep=3) as runs:
        _, progress, under_way = runs.load(4, abstract(trees(mesh)), mesh)
        assert (progress, under_way) == ({"step": 1}, None)
        assert_identical(runs.load(5, abstract(trees(mesh)), mesh)[2], batch(mesh, sampling=False))


def test_the_latest_few_are_kept_and_the_newest_parameters_are_found(tmp_path, mesh):
    with RunState(tmp_path, keep=2) as runs:
        for number in (4, 8, 12):
            runs.save(number, trees(mesh, seed=number), {"step": number}, None)
    with RunState(tmp_path, keep=2) as runs:
        assert runs.latest == 12
    assert saved_numbers(tmp_path) == [8, 12]
    params = load_params(tmp_path, 12, abstract(trees(mesh)["params"]))
    assert_identical(params, trees(mesh, seed=12)["params"])


def test_what_is_saved_is_safe_from_donation_and_a_number_saved_stays(tmp_path, mesh):
    """A signal on the last update asks for the save that has just begun."""
    held = trees(mesh)
    with RunState(tmp_path, keep=3) as runs:
        runs.save(4, held, {"step": 1}, None)
        runs.save(4, trees(mesh, seed=1), {"step": 2}, None)
        changed = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)(held["params"])
        jax.block_until_ready(changed)
    with RunState(tmp_path, keep=3) as runs:
        found, progress, _ = runs.load(4, abstract(trees(mesh)), mesh)
    assert_identical(found, trees(mesh))
    assert progress == {"step": 1}


def test_a_checkpoint_cut_off_is_not_one(tmp_path, saved, mesh):
    """What a killed run was writing is neither resumed nor in the way."""
    with RunState(tmp_path, keep=3) as runs:
        runs.save(4, trees(mesh), {"step": 1}, None)
    (tmp_path / "8.orbax-checkpoint-tmp-1").mkdir()
    with RunState(tmp_path, keep=3) as runs:
        assert runs.latest == 4
        runs.save(8, trees(mesh), {"step": 2}, None)
    with RunState(tmp_path, keep=3) as runs:
        assert runs.latest == 8


def test_settings_keep_something():
    assert Checkpointing() == Checkpointing(every_steps=50, within_step=False, keep=3)
    with pytest.raises(ValueError, match="keep"):
        Checkpointing(keep=0)


def damaged(saved, folder, item, how):
    """Copy a checkpoint and damage the files of an item that hold its arrays, or its text."""
    copy = shutil.copytree(saved, folder / "run" / "checkpoints")
    for file in [*(copy / "13" / item).rglob("d/*"), *(copy / "13" / item).glob("data.json")]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content if how == "flipped" else content[: len(content) // 2])
        if how == "missing":
            file.unlink()
    return copy


@pytest.mark.parametrize("how", ["missing", "cut", "flipped"])
@pytest.mark.parametrize("item", ["params", "optimizer", "batch", "progress"])
def test_damage_is_named(saved, mesh, tmp_path, capfd, item, how):
    folder = damaged(saved, tmp_path, item, how)
    with (
        RunState(folder, keep=3) as runs,
        pytest.raises(DamagedCheckpoint, match=rf"^checkpoints/13 of .*/run is damaged \({item}\)$"),
    ):
        runs.load(13, abstract(trees(mesh)), mesh)
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_of_stored_weights_is_noticed(tmp_path, mesh):
    """Trap: what OCDBT keeps in data files of their own has no checksum; zstd refuses most flips there, not all."""
    folder = tmp_path / "run" / "checkpoints"
    with RunState(folder, keep=3) as runs:
        runs.save(4, trees(mesh), {"step": 1}, None)
    record = json.loads((folder / "4" / "progress" / "data.json").read_text())
    with RunState(folder, keep=3) as runs:
        runs.save(8, trees(mesh, seed=1), {"step": 1}, None)
    (folder / "8" / "progress" / "data.json").write_text(json.dumps(record))
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/8 of .* is damaged \(params\)"):
        load_params(folder, 8, abstract(trees(mesh)["params"]))


def test_what_is_set_aside_is_in_nobodys_way(saved, mesh, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    with RunState(folder, keep=3) as runs:
        assert runs.set_aside([13]) == ["checkpoints/damaged-13"]
        assert runs.latest is None
        runs.save(13, trees(mesh, seed=2), {"step": 3}, None)
        runs.settle()
        assert runs.set_aside([13]) == ["checkpoints/damaged-13-1"]


def test_saves_leave_no_descriptor_and_no_thread_behind(tmp_path):
    """Trap: each response of Orbax holds three descriptors and a thread until its result is taken."""
    small = {"params": {"a": jnp.ones(3)}}

    def held():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with RunState(tmp_path, keep=2) as runs:
        for number in range(16):
            if number == 6:
                runs.settle()
                before = held()
            runs.save(number, small, {"step": number}, None)
        runs.settle()
        after = held()
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 1


def test_a_save_that_cannot_be_written_is_told_at_the_next_look(tmp_path):
    """A full disk, as a limit on the size of files."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    large = {"params": {"a": jax.random.normal(jax.random.key(0), (4096,))}}
    checksums(large)  # compiled while files may be large
    with RunState(tmp_path / "run" / "checkpoints", keep=2) as runs:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
            runs.save(4, large, {"step": 1}, None)
            with pytest.raises(DarError, match=r"checkpoints/4 of .*run could not be written: .*resume with: dar-jax"):
                wait_until(runs.check)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
    assert saved_numbers(tmp_path / "run" / "checkpoints") == []


def wait_until(look):
    for _ in range(200):
        look()
        time.sleep(0.05)


@NEEDS_GCSFS
def test_in_a_bucket_damage_is_named_and_deleted(gcs, mesh):
    folder = "gs://bucket/run/checkpoints"
    bucket.prepare(folder)
    with RunState(folder, keep=3) as runs:
        runs.save(4, trees(mesh), {"step": 1}, None)
        runs.save(8, trees(mesh), {"step": 2}, None)
        runs.settle()
        for name in [name for name in gcs.buckets["bucket"] if "checkpoints/8/params/" in name and "/d/" in name]:
            gcs.buckets["bucket"].pop(name)
        with pytest.raises(DamagedCheckpoint, match=r"checkpoints/8 of gs://bucket/run is damaged \(params\)"):
            runs.load(8, abstract(trees(mesh)), mesh)
        assert runs.set_aside([8]) == ["deleted"]
        assert runs.numbers == [4]
        gcs.fault = lambda method, target: 403
        with pytest.raises(DarError, match=r"checkpoints/4 of gs://bucket/run cannot be read now") as told:
            runs.progress(4)
        assert not isinstance(told.value, DamagedCheckpoint)
        gcs.fault = lambda method, target: None
