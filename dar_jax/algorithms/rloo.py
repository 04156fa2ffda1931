"""REINFORCE leave-one-out (Kool et al., 2019; Ahmadian et al., arXiv 2402.14740).

    L(theta) = - mean (R_i - mean of R_j over the prompt's other completions) log pi_theta(y_i|x)

with R as in REINFORCE: reward less the KL penalty.
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Baseline
from dar_jax.algorithms.reinforce import Reinforce
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLOO(Reinforce):
    """REINFORCE whose baseline is the mean of the prompt's other completions."""

    min_group_size: ClassVar[int] = 2
    baseline: ClassVar[Baseline] = "leave_one_out"

    name: Literal["rloo"] = "rloo"  # type: ignore[assignment]
