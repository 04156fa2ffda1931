"""TPU slices and their compiler: libtpu compiles for a TPU without having one.

Topologies have Cloud TPU's names, with the chips along each axis: `v5e:2x4`, `v5p:4x4x4`.
"""

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dar_jax.errors import SettingError

GIB = 2**30
# Set so that libtpu does not query the metadata server for a TPU and its hosts.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Capacity and peak rates of one chip.

    `hbm_bytes` is what the compiler lets a program use, a little less than the nominal size. `ici_bytes_per_s` is the
    sending bandwidth over all `ici_links`. `core` is libtpu's chip config: "megacore" makes one device of two cores, as
    on a TPU VM.
    """

    generation: str
    hbm_bytes: int
    peak_flops: float
    hbm_bytes_per_s: float
    ici_bytes_per_s: float
    ici_links: int
    topologies: tuple[str, ...]
    core: str = "default"

    @property
    def axis_bytes_per_s(self) -> float:
        """Sending bandwidth along one axis of the torus, over two links."""
        return self.ici_bytes_per_s * 2 / self.ici_links


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")

# Peak, bandwidths, links and shapes: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}, November 2026; v4's ICI is of
# Jouppi et al. 2023 (arXiv 2304.01433), six links of 50 GB/s. HBM: the "available HBM" in the error of
# libtpu 0.0.52 for a program too large for the chip.
CHIPS: Mapping[str, Chip] = {
    chip.generation: chip
    for chip in (
        Chip(
            generation="v4",
            hbm_bytes=int(30.75 * GIB),
            peak_flops=275e12,
            hbm_bytes_per_s=1200e9,
            ici_bytes_per_s=300e9,
            ici_links=6,
            topologies=(*_CUBES, "12x16x16"),
            core="megacore",
        ),
        Chip(
            generation="v5e",
            hbm_bytes=int(15.75 * GIB),
            peak_flops=197e12,
            hbm_bytes_per_s=819e9,
            ici_bytes_per_s=200e9,
            ici_links=4,
            topologies=_FLAT,
        ),
        Chip(
            generation="v5p",
            hbm_bytes=int(95.73 * GIB),
            peak_flops=459e12,
            hbm_bytes_per_s=2765e9,
            ici_bytes_per_s=600e9,
            ici_links=6,
            topologies=(*_CUBES, "16x16x16", "16x16x24"),
            core="megacore",
        ),
        Chip(
            generation="v6e",
            hbm_bytes=int(31.24 * GIB),
            peak_flops=918e12,
            hbm_bytes_per_s=1600e9,
            ici_bytes_per_s=400e9,
            ici_links=4,
            topologies=_FLAT,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A TPU slice."""

    name: str
    chip: Chip
    chips: int

    @property
    def host(self) -> tuple[int, ...]:
        """Chips along each axis of one host: four chips, or eight if the slice is one host of v5e or v6e."""
        sizes = [int(size) for size in self.name.partition(":")[2].split("x")]
        return (2, 4, 1) if sizes == [2, 4] else (min(2, sizes[0]), min(2, sizes[1]), 1)

    def devices(self) -> list[Any]:
        """Return the devices to compile for. Raises SettingError if libtpu is not installed."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from jax.experimental import topologies

        try:
            import libtpu  # noqa: F401
        except ImportError:
            raise SettingError(
                "plan: the TPU compiler (libtpu) is not installed; it needs no TPU: pip install 'dar-jax[tpu]'"
            ) from None
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=self.name,
            chip_config_name=self.chip.core,
            chips_per_host_bounds=self.host,
        )
        return list(described.devices)

    def larger(self) -> list["Topology"]:
        """Return the larger slices of the same generation, smallest first."""
        found = (topology(f"{self.chip.generation}:{shape}") for shape in self.chip.topologies)
        return [replace(each, chip=self.chip) for each in found if each.chips > self.chips]


def topology(name: str) -> Topology:
    """Return a topology by name. Raises SettingError with the known names for an unknown one."""
    generation, _, shape = name.partition(":")
    chip = CHIPS.get(generation)
    if chip is None or shape not in chip.topologies:
        raise SettingError(f"--topology {name}: unknown slice{_nearest(name)}; known: {_listed(chip)}")
    return Topology(name=name, chip=chip, chips=math.prod(int(size) for size in shape.split("x")))


def _listed(chip: Chip | None) -> str:
    shown = [chip] if chip else CHIPS.values()
    return "; ".join(f"{each.generation}: {', '.join(each.topologies)}" for each in shown)


def _nearest(name: str) -> str:
    names = [f"{chip.generation}:{shape}" for chip in CHIPS.values() for shape in chip.topologies]
    near = difflib.get_close_matches(name, names, 1)
    return f", did you mean {near[0]}?" if near else ""
