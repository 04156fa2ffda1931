"""Check from their headers that the files contain what config.json requires, and report all faults at once."""

from collections.abc import Mapping
from pathlib import Path

from dar_jax.checkpoints.huggingface.layout import joined_shape, tensors
from dar_jax.checkpoints.huggingface.shards import DTYPES, Tensor
from dar_jax.checkpoints.not_finite import some
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, families

# Old exports of the Llama line carry the rotary frequencies, which follow from config.json.
_BUFFERS = ("rotary_emb.inv_freq",)
_BLOCK = 1 << 24


def check(folder: Path, config: DecoderConfig, found: Mapping[str, Tensor]) -> None:
    """Check names, shapes and dtypes before any tensor is read.

    Raises SettingError with the HF names of all missing, extra or misshapen tensors.
    """
    wanted = {name: joined_shape(held) for name, held in tensors(config).items()}
    misshapen = []
    for name in sorted(wanted.keys() & found.keys()):
        tensor = found[name]
        if tensor.shape != wanted[name]:
            misshapen.append(f"{name} {tensor.shape} for {wanted[name]}")
        elif tensor.kind not in DTYPES:
            misshapen.append(f"{name} {tensor.kind} for a float")
    known = {name for name in found if name.endswith(_BUFFERS)} | _tied_copies(config, found)
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "extra": sorted(found.keys() - wanted.keys() - known),
        "misshapen": misshapen,
    }
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in faults.items() if names)
        raise SettingError(f"{folder}: the tensors do not fit config.json: {said}")


def _tied_copies(config: DecoderConfig, found: Mapping[str, Tensor]) -> set[str]:
    """Return the name of a head written beside a tied embedding by some exporters, if its numbers are the same."""
    names = {row.path: row.name for row in families.FAMILIES[config.family].tensors}
    head, embed = names["head",], names["embed",]
    if not config.tied_head or not {head, embed} <= found.keys():
        return set()
    return {head} if _equal(found[head], found[embed]) else set()


def _equal(one: Tensor, other: Tensor) -> bool:
    if (one.shape, one.kind) != (other.shape, other.kind) or one.kind not in DTYPES:
        return False
    rows, columns = one.shape
    step = max(1, _BLOCK // (columns * one.dtype.itemsize))
    spans = ((row, min(row + step, rows)) for row in range(0, rows, step))
    return all((one.read(span, (0, columns)) == other.read(span, (0, columns))).all() for span in spans)
