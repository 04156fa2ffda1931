"""REINFORCE leave-one-out (Kool et al., 2019; Ahmadian et al., arXiv 2402.14740).

    L(theta) = - mean (R_i - mean of R_j over the prompt's other completions) log pi_theta(y_i|x)

with R as in REINFORCE: reward less the KL penalty.
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import Baseline
from dar_jax.algorithms.online import two_or_more
from dar_jax.algorithms.reinforce import Reinforce
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLOO(Reinforce):
    """REINFORCE whose baseline is the mean of the prompt's other completions."""

    baseline: ClassVar[Baseline] = "leave_one_out"

    name: Literal["rloo"] = "rloo"  # type: ignore[assignment]

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return two_or_more(group_size, self.name)
