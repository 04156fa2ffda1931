import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from pydantic import ValidationError

from dar_jax import models
from dar_jax.batches import Inputs, Rollouts
from dar_jax.errors import SettingError
from dar_jax.parallel import (
    RULES,
    MeshShape,
    constrain,
    decode_mesh,
    local_rows,
    relaid,
    replicated,
    rows,
    shardings,
    spec,
    to_host,
    whole,
)
from tests.nano import NANO


@pytest.fixture(scope="module")
def mesh():
    return MeshShape(data=2, tensor=2).build()


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (MeshShape(), (1, 8, 1)),
        (MeshShape(data=2, tensor=2), (2, 2, 2)),
        (MeshShape(tensor=8), (1, 1, 8)),
        (MeshShape(data=2, fsdp=1, devices=2), (2, 1, 1)),
        (MeshShape(devices=1), (1, 1, 1)),
    ],
)
def test_what_is_left_out_of_a_mesh_goes_to_fsdp(shape, sizes):
    mesh = shape.build()
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.devices.shape == sizes


@pytest.mark.parametrize("shape", [MeshShape(data=3), MeshShape(fsdp=4), MeshShape(tensor=16)])
def test_a_mesh_that_does_not_use_every_device_is_refused(shape):
    with pytest.raises(SettingError, match=r"mesh: .* so that their product is 8"):
        shape.build()


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(SettingError, match=r"mesh.devices: got 16, .* 8"):
        MeshShape(devices=16).build()


@pytest.mark.parametrize("wrong", [{"data": 0}, {"tensor": -1}, {"model": 2}])
def test_mesh_settings_refuse_what_no_mesh_can_be(wrong):
    with pytest.raises(ValidationError):
        MeshShape(**wrong)


def test_a_size_lies_over_as_many_mesh_axes_as_divide_it(mesh):
    assert spec(("batch", "width"), (8, 6), mesh) == PartitionSpec(("data", "fsdp"), "fsdp")
    assert spec(("batch", None), (6, 6), mesh) == PartitionSpec("data", None)
    assert spec(("batch", "vocab"), (5, 6), mesh) == PartitionSpec(None, "tensor")
    assert spec(("width", "kv_heads", "head_size"), (5, 3, 4), mesh) == PartitionSpec(None, None, None)
    assert spec((), (), mesh) == PartitionSpec()


def test_an_axis_without_a_rule_is_an_error(mesh):
    with pytest.raises(KeyError):
        spec(("breadth",), (4,), mesh)
    with pytest.raises(ValueError, match="zip"):
        spec(("width",), (4, 4), mesh)


def test_one_rule_table_covers_every_axis_of_the_decoder(mesh):
    targets = {name for rule in RULES.values() for name in rule}
    assert targets == {*mesh.axis_names, "spread"}
    assert {*NANO.sizes, "batch", "batch_at_mlp", "batch_at_vocab"} == set(RULES)


def test_the_devices_of_a_host_decode_with_one_copy_of_the_weights(mesh):
    """Heads over as many as there are key/value heads (NANO has 2), rows over the others, the rest over all."""
    decoding = decode_mesh(mesh, NANO.kv_heads)
    assert dict(decoding.shape) == {"data": 1, "spread": 4, "tensor": 2}
    assert list(decoding.devices.flat) == list(mesh.devices.flat)
    assert dict(decode_mesh(mesh, NANO.kv_heads, 4).shape) == {"data": 2, "spread": 2, "tensor": 2}
    assert dict(decode_mesh(mesh, 8, 1).shape) == {"data": 8, "spread": 1, "tensor": 1}


def test_shardings_split_the_weights_for_real(mesh):
    abstract, axes = models.abstract(NANO), models.logical_axes(NANO)
    train, decode = (shardings(abstract, axes, each) for each in (mesh, decode_mesh(mesh, NANO.kv_heads)))
    assert jax.tree.structure(train) == jax.tree.structure(abstract)
    up, query = (
        abstract["layers"]["mlp"]["up"]["kernel"].shape,
        abstract["layers"]["attention"]["query"]["kernel"].shape,
    )
    assert train["layers"]["mlp"]["up"]["kernel"].shard_shape(up) == (2, 16, 32)
    assert decode["layers"]["mlp"]["up"]["kernel"].shard_shape(up) == (2, 32, 8)
    assert decode["layers"]["attention"]["query"]["kernel"].shard_shape(query) == (2, 32, 2, 8)
    assert train["embed"].shard_shape(abstract["embed"].shape) == (16, 32)
    assert decode["embed"].shard_shape(abstract["embed"].shape) == (8, 32)


def test_shard_that_is_a_no_op_on_cpu_rows_lie_on_different_devices(mesh):
    array = rows(np.arange(16).reshape(8, 2), mesh)
    assert array.sharding.shard_shape(array.shape) == (2, 2)
    assert len({shard.device for shard in array.addressable_shards}) == 8
    np.testing.assert_array_equal(array, np.arange(16).reshape(8, 2))


def test_rows_that_cannot_be_split_lie_whole_everywhere(mesh):
    assert rows(np.zeros((5, 2)), mesh).sharding.is_fully_replicated


def test_rows_on_the_devices_are_laid_out_for_another_use_of_them(mesh):
    array = rows(np.arange(16).reshape(8, 2), decode_mesh(mesh, 8))
    assert array.sharding.is_fully_replicated
    again = relaid({"rows": array}, mesh)["rows"]
    assert again.sharding.shard_shape((8, 2)) == (2, 2)
    np.testing.assert_array_equal(again, array)


def test_rows_take_a_record_and_leave_absent_fields_absent(mesh):
    record = Rollouts(
        inputs_B=Inputs(token_BT=np.zeros((4, 3), np.int32), mask_BS=np.ones((4, 3), bool)),
        mask_completion_BT=np.ones((4, 1), bool),
        ended_B=np.ones(4, bool),
    )
    placed = rows(record, mesh)
    assert placed.ref_logprob_BT is None
    assert placed.ended_B.sharding.shard_shape((4,)) == (1,)
    host = to_host(placed)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    np.testing.assert_array_equal(host.inputs_B.mask_BS, record.inputs_B.mask_BS)


def test_replicated_puts_scalars_and_keys_whole_on_every_device(mesh):
    placed = replicated({"scalar": np.float32(3.0), "key": jax.random.key(1)}, mesh)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(placed))
    assert len(placed["scalar"].sharding.device_set) == 8


def test_constrain_does_nothing_without_a_mesh_and_lays_out_with_one(mesh):
    array = jnp.zeros((8, 4))
    assert constrain(array, "batch", "width") is array
    with jax.set_mesh(mesh):
        laid = jax.jit(lambda x: constrain(x + 1, None, "vocab"))(array)
    assert laid.sharding.shard_shape(laid.shape) == (8, 1)


def test_a_host_alone_answers_for_every_row(mesh):
    numbers, own = local_rows({"a": rows(np.arange(8), mesh)}, 4, mesh)
    assert numbers == list(range(8))
    np.testing.assert_array_equal(own["a"], np.arange(8))
    np.testing.assert_array_equal(whole(rows(np.arange(8), mesh), mesh), np.arange(8))
