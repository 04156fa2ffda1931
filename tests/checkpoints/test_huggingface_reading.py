"""Streaming onto the mesh: each number in its place, read once, held once; damage told by the file's name."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.checkpoints.huggingface import shards, weights
from dar_jax.errors import SettingError
from dar_jax.models.families import FAMILIES
from dar_jax.parallel import MeshShape, shardings
from tests.checkpoints.small_models import small
from tests.models.score import draw

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
SHARDED = GOLDEN / "qwen3-sharded-bfloat16"


def places(config, **mesh):
    return shardings(models.abstract(config), models.logical_axes(config), MeshShape(**mesh).build())


@pytest.fixture
def bytes_read(monkeypatch):
    """Count what is read of the tensors, a number an entry."""
    counts, plain = [], os.preadv

    def counted(file, buffers, offset):
        counts.append(plain(file, buffers, offset))
        return counts[-1]

    monkeypatch.setattr(os, "preadv", counted)
    return counts


def size_of_data(folder):
    return sum(array.nbytes for path in folder.glob("model*.safetensors") for array in load_file(path).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_bit_for_bit_on_every_mesh(tmp_path, family):
    config = small(family)
    params = draw(config)
    huggingface.save(tmp_path / "out", config, params, shard_bytes=9_000)
    for mesh in ({"devices": 1}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "tensor": 4}):
        wanted = places(config, **mesh)
        read, again = huggingface.load(tmp_path / "out", wanted)
        assert read == config
        jax.tree.map(np.testing.assert_array_equal, params, again)
        assert jax.tree.map(lambda leaf: leaf.sharding, again) == wanted


def _spoil(folder, name, value):
    file = folder / "model.safetensors"
    tensors = {each: array.copy() for each, array in load_file(file).items()}
    tensors[name].flat[-1] = value
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(tmp_path, dtype, value):
    config, name = small("qwen3"), "model.layers.1.mlp.down_proj.weight"
    huggingface.save(tmp_path / "out", config, draw(config), dtype)
    _spoil(tmp_path / "out", name, value)
    with pytest.raises(SettingError, match=rf"out: NaN or infinite numbers in {name}; "):
        huggingface.load(tmp_path / "out", dtype=jnp.bfloat16)


def test_a_number_too_large_for_the_dtype_is_not_exported(tmp_path):
    config = small("qwen3")
    params = jax.tree.map(np.array, draw(config))
    params["layers"]["mlp"]["up"]["kernel"][1, 0, 0] = np.finfo(np.float32).max
    huggingface.save(tmp_path / "wide", config, params)
    with pytest.raises(SettingError, match=r"layers\.1\.mlp\.up_proj\.weight: NaN or infinite numbers as bfloat16"):
        huggingface.save(tmp_path / "narrow", config, params, "bfloat16")
    assert not (tmp_path / "narrow").exists()


def test_the_import_divides_what_it_divides():
    """What the test above relies on: the small decoders really lie in pieces."""
    wanted = places(small("phi3"), data=2, fsdp=2, tensor=2)
    assert wanted["layers"]["attention"]["key"]["kernel"].spec == PartitionSpec(None, "fsdp", "tensor", None)
    assert wanted["layers"]["mlp"]["down"]["kernel"].spec == PartitionSpec(None, "tensor", "fsdp")


@pytest.mark.parametrize("mesh", [{"devices": 1}, {"fsdp": 8}, {"data": 4, "tensor": 2}])
def test_each_byte_is_read_once_however_many_devices_hold_it(bytes_read, mesh):
    config = huggingface.read_config(SHARDED)
    huggingface.load(SHARDED, places(config, **mesh))
    assert sum(bytes_read) == size_of_data(SHARDED)


@pytest.mark.parametrize(("spec", "share"), [(("tensor", None), 8), ((None, "tensor"), 8), ((None, None), 1)])
def test_a_process_reads_what_its_devices_hold(tmp_path, bytes_read, spec, share):
    """A process of several holds some devices: the first of eight, here."""
    config = small("llama")
    huggingface.save(tmp_path / "out", config, draw(config))
    mesh = jax.make_mesh((8,), ("tensor",), axis_types=(AxisType.Auto,))
    leaf = next(leaf for leaf in weights._leaves(config, None, np.dtype("float32")) if leaf.path == ("embed",))
    index = NamedSharding(mesh, PartitionSpec(*spec)).devices_indices_map(leaf.shape)[jax.devices()[0]]
    leaf.devices = {weights._index(index, leaf.shape): [jax.devices()[0]]}
    leaf.allocate()
    with ExitStack() as stack:
        tensor = shards.open_tensors(tmp_path / "out", stack)["model.embed_tokens.weight"]
        filled = weights._fill(leaf.parts[0], tensor, leaf.targets(leaf.parts[0]), set())
    assert filled == sum(bytes_read) == 48 * 16 * 4 // share


def test_parameters_on_their_way_are_limited_by_bytes(monkeypatch):
    flying, most = set(), []
    allocate, put = weights._Leaf.allocate, weights._Leaf.put

    def counted_allocate(leaf):
        flying.add(leaf.path)
        most.append(len(flying))
        allocate(leaf)

    def counted_put(leaf):
        flying.remove(leaf.path)
        return put(leaf)

    monkeypatch.setattr(weights._Leaf, "allocate", counted_allocate)
    monkeypatch.setattr(weights._Leaf, "put", counted_put)
    huggingface.load(SHARDED)
    assert max(most) > 4
    most.clear()
    monkeypatch.setattr(weights, "_IN_FLIGHT", 1)
    _, params = huggingface.load(SHARDED)
    assert set(most) == {1}
    assert jax.tree.structure(params) == jax.tree.structure(models.abstract(huggingface.read_config(SHARDED)))


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_blocks_of_any_size_give_the_same(monkeypatch, block):
    config, whole = huggingface.load(SHARDED)
    monkeypatch.setattr(weights, "_BLOCK", block)
    _, params = huggingface.load(SHARDED, places(config, fsdp=4, tensor=2))
    jax.tree.map(np.testing.assert_array_equal, whole, params)


def test_nothing_is_held_twice_on_a_cpu():
    """Each array is the buffer that was read into, one for all devices that hold the same piece."""
    _, params = huggingface.load(SHARDED, places(huggingface.read_config(SHARDED), data=8))
    pieces = [shard.data.unsafe_buffer_pointer() for shard in params["embed"].addressable_shards]
    assert len(pieces) == 8
    assert len(set(pieces)) == 1


def test_an_imported_parameter_may_be_donated():
    """Its buffer was numpy's: what is computed in its place must not depend on that."""
    _, params = huggingface.load(SHARDED)
    expected = np.asarray(params["embed"]) + 1
    added = jax.jit(lambda leaf: leaf + 1, donate_argnums=0)(params["embed"])
    np.testing.assert_array_equal(added, expected)


def test_progress_tells_bytes_up_to_the_total():
    told = []
    _, params = huggingface.load(SHARDED, dtype=jnp.bfloat16, progress=lambda *numbers: told.append(numbers))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]} == {sum(leaf.nbytes for leaf in jax.tree.leaves(params))}


@pytest.mark.parametrize("kind", [np.float64, np.float16, jnp.bfloat16])
def test_any_kind_of_float_becomes_float32(tmp_path, kind):
    folder = Path(shutil.copytree(GOLDEN / "qwen3-tied", tmp_path / "checkpoint"))
    cast = {name: array.astype(kind) for name, array in load_file(folder / "model.safetensors").items()}
    save_file(cast, folder / "model.safetensors")
    _, params = huggingface.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    np.testing.assert_array_equal(params["embed"], cast["model.embed_tokens.weight"].astype(np.float32))


def test_a_fused_tensor_holds_its_parameters_one_after_the_other(tmp_path):
    config = small("phi3")
    params = draw(config)
    huggingface.save(tmp_path / "out", config, params)
    fused = load_file(tmp_path / "out" / "model.safetensors")["model.layers.1.self_attn.qkv_proj.weight"]
    attention = params["layers"]["attention"]
    parts = [np.asarray(attention[name]["kernel"][1]).reshape(16, -1).T for name in ("query", "key", "value")]
    np.testing.assert_array_equal(fused, np.concatenate(parts))


def test_a_fused_tensor_of_another_height_is_misshapen(tmp_path):
    config = small("phi3")
    huggingface.save(tmp_path / "out", config, draw(config))
    file = tmp_path / "out" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"model.layers.0.mlp.gate_up_proj.weight": np.zeros((24, 16), np.float32)}, file)
    with pytest.raises(SettingError, match=r"1 misshapen: model.layers.0.mlp.gate_up_proj.weight \(24, 16\) for \(48"):
        huggingface.load(tmp_path / "out")


def test_rotary_buffers_of_old_exports_are_no_fault(tmp_path):
    config = small("llama")
    huggingface.save(tmp_path / "out", config, draw(config))
    file = tmp_path / "out" / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(3, np.float32)}, file)
    assert huggingface.load(tmp_path / "out")[0] == config


@pytest.mark.parametrize("kept", [0, 5, 60, 4_000, -1])
def test_a_truncated_shard_is_named_before_anything_is_read(tmp_path, kept):
    folder = Path(shutil.copytree(SHARDED, tmp_path / "checkpoint"))
    shard = folder / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(SettingError, match=r"model-00001-of-00002.safetensors: missing, cut off or damaged"):
        huggingface.load(folder)


def test_a_shard_that_is_cut_off_while_it_is_read_is_named(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(SHARDED, tmp_path / "checkpoint"))
    shard = folder / "model-00001-of-00002.safetensors"
    check = weights.check

    def check_then_cut(*arguments):
        check(*arguments)
        os.truncate(shard, shard.stat().st_size - 64)

    monkeypatch.setattr(weights, "check", check_then_cut)
    with pytest.raises(SettingError, match=r"model-00001-of-00002.safetensors: .* \(it ended while it was read\)"):
        huggingface.load(folder)


@pytest.mark.parametrize(
    "header", [b"{", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}']
)
def test_a_header_that_makes_no_sense_is_damage(tmp_path, header):
    folder = Path(shutil.copytree(GOLDEN / "qwen3-tied", tmp_path / "checkpoint"))
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(SettingError, match=r"model.safetensors: missing, cut off or damaged"):
        huggingface.load(folder)


def test_an_index_without_a_map_of_weights_is_said(tmp_path):
    folder = Path(shutil.copytree(SHARDED, tmp_path / "checkpoint"))
    (folder / shards.INDEX).write_text(json.dumps({"metadata": {}}))
    with pytest.raises(SettingError, match=r"index.json: no weight_map"):
        huggingface.load(folder)


def test_a_split_inside_an_axis_of_the_file_is_refused():
    """No rule makes it today; it must not read other numbers if one does."""
    config = huggingface.read_config(SHARDED)
    wanted = places(config, devices=1)
    mesh = jax.make_mesh((2,), ("halves",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    inner = NamedSharding(mesh, PartitionSpec(None, None, None, "halves"))
    wanted["layers"]["attention"]["query"]["kernel"] = inner
    with pytest.raises(ValueError, match="layers/attention/query/kernel: split along an axis that the file keeps"):
        huggingface.load(SHARDED, wanted)
