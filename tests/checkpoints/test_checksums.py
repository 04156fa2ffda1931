"""A checksum is of every bit and where it stands, and of no layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dar_jax.checkpoints.checksums import checksum, checksums
from dar_jax.parallel import MeshShape

KINDS = {
    "float32": lambda random: random.normal(size=(4, 8)).astype(np.float32),
    "bfloat16": lambda random: random.normal(size=(4, 8)).astype(jnp.bfloat16),
    "int32": lambda random: random.integers(-9, 9, (4, 8)).astype(np.int32),
    "uint8": lambda random: random.integers(0, 255, (4, 8)).astype(np.uint8),
    "bool": lambda random: random.integers(0, 2, (4, 8)).astype(bool),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_bit_of_any_dtype_counts(kind):
    array = KINDS[kind](np.random.default_rng(0))
    found = {checksum({"a": jnp.asarray(array)})}
    for position in (0, 7, 31):
        changed = array.copy().view(np.uint8).reshape(-1)
        changed[position * array.itemsize] ^= 1
        found.add(checksum({"a": jnp.asarray(changed.view(array.dtype).reshape(array.shape))}))
    assert len(found) == 4


def test_a_swap_of_values_or_of_names_is_noticed():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    swapped = array.copy()
    swapped[0, 1], swapped[2, 3] = array[2, 3], array[0, 1]
    trees = {"as it is": {"a": array}, "swapped": {"a": swapped}, "named": {"b": array}, "turned": {"a": array.T}}
    trees["flat"] = {"a": array.reshape(-1)}
    assert len(set(checksums(trees).values())) == len(trees)


def test_a_key_counts_by_its_words():
    one, same, other = (checksum({"key": jax.random.key(seed)}) for seed in (1, 1, 2))
    assert one == same != other


def test_the_layout_does_not_count():
    mesh = MeshShape(data=2, tensor=2).build()
    array = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    specs = (PartitionSpec(), PartitionSpec(("data", "fsdp"), "tensor"), PartitionSpec("tensor"))
    placed = [jax.device_put(array, NamedSharding(mesh, spec)) for spec in specs]
    assert len({checksum({"a": each}) for each in (*placed, array)}) == 1
