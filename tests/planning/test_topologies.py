import sys

import pytest

from dar_jax.errors import SettingError
from dar_jax.planning.topologies import CHIPS, GIB, topology


@pytest.mark.parametrize(
    ("name", "chips", "host"),
    [("v5e:1x1", 1, (1, 1, 1)), ("v5e:2x4", 8, (2, 4, 1)), ("v6e:4x4", 16, (2, 2, 1)), ("v5p:4x4x4", 64, (2, 2, 1))],
)
def test_a_slice_has_its_chips_and_hosts(name, chips, host):
    found = topology(name)
    assert (found.chips, found.host, found.chip.generation) == (chips, host, name[:3])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("v5e:2x5", r"did you mean v5e:2x4\?; known: v5e: 1x1, 2x2, 2x4, 4x4,"),
        ("v5p:4x4", "known: v5p: 2x2x1, 2x2x2, "),
        ("v9", "v4: 2x2x1.*v5e: 1x1.*v5p: 2x2x1.*v6e: 1x1"),
    ],
)
def test_a_slice_that_does_not_exist_gives_those_that_do(name, told):
    with pytest.raises(SettingError, match=f"--topology {name}: unknown slice.*{told}"):
        topology(name)


def test_the_larger_slices_come_in_order():
    assert [each.name for each in topology("v5e:4x8").larger()] == ["v5e:8x8", "v5e:8x16", "v5e:16x16"]
    assert not topology("v5p:16x16x24").larger()


def test_one_axis_of_the_torus_has_two_links():
    assert {name: chip.axis_bytes_per_s / 1e9 for name, chip in CHIPS.items()} == {
        "v4": 100,
        "v5e": 100,
        "v5p": 200,
        "v6e": 200,
    }
    assert all(chip.hbm_bytes > 15 * GIB for chip in CHIPS.values())


def test_without_libtpu_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(SettingError, match=r"pip install 'dar-jax\[tpu\]'"):
        topology("v5e:2x4").devices()
