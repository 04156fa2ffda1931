"""Check that compared runs share what they must, and count the annotations of a step."""

import re
from collections.abc import Callable

from dar_jax.algorithms import ALGORITHMS
from dar_jax.config.run_config import RunConfig
from dar_jax.errors import SettingError
from dar_jax.experiments.compare_settings import Comparison
from dar_jax.experiments.grid import Changes, within

_SHARED = (
    *("policy", "data", "judge", "tokenizer", "sampling", "evaluation", "ledger", "on_bad_prompt", "seed", "steps"),
    *("learning.compute_dtype", "learning.logprob_temperature"),
)
# The same judge may be asked to grade or to compare.
_FREE = ("judge.labels", "judge.orders")
# An algorithm that learns from recorded completions has its own, and no annotations to count its steps by.
_FREE_OFFLINE = ("data", "judge", "steps")


def asked_a_step(config: RunConfig) -> int:
    """Return the annotations of a step; 0 without a judge."""
    forecast = config.forecast(config.rows_per_step)
    return forecast.calls if forecast else 0


def check(comparison: Comparison, base: RunConfig, where: str, read: Callable[[str], RunConfig]) -> None:
    """Raise SettingError if the runs cannot be compared; `read` returns an algorithm's settings."""
    if base.evaluation is None:
        raise SettingError(
            f"{where}: evaluation: missing; what is compared is measured on held-out prompts, so state it"
        )
    for name in (*comparison.algorithms, *comparison.judges):
        if not re.fullmatch(r"[\w+-][\w.+-]*", name):
            raise SettingError(
                f"{where}: compare: {name!r} is to name a folder; take letters, digits and . _ + - alone"
            )
    if comparison.grid and comparison.tuning_judge not in (None, *comparison.judges):
        raise SettingError(
            f"{where}: compare.tuning_judge: {comparison.tuning_judge} is none of the judges compared"
            f" ({', '.join(comparison.judges) or 'none is named'}); name it too, or leave this out to tune under each"
        )
    for name, changes in comparison.judges.items():
        if other := [key for key in changes or {} if not within(key, ["judge"])]:
            raise SettingError(
                f"{where}: compare.judges.{name}: {other[0]} is not of the judge; write judge.key, or leave it out"
            )
    for name, changes in comparison.algorithms.items():
        if not changes and name not in ALGORITHMS:
            raise SettingError(
                f"{where}: compare.algorithms: {name} is none of {', '.join(ALGORITHMS)}, and has no settings that say"
                " what it is"
            )
        _check_changes(f"{where}: compare.algorithms.{name}", changes or {}, comparison, online=read(name).online)


def _check_changes(what: str, changes: Changes, comparison: Comparison, *, online: bool) -> None:
    if twice := [key for key in changes if key in (comparison.grid or {})]:
        raise SettingError(f"{what}: {twice[0]} is in compare.grid as well; state it in one place")
    free = _FREE if online else (*_FREE, *_FREE_OFFLINE)
    if own := [key for key in changes if within(key, _SHARED) and not within(key, free)]:
        raise SettingError(f"{what}: {own[0]} must be the same for all; state it outside compare, or leave it out")
