"""Algorithms, one small file each; none knows the model.

An algorithm is a frozen dataclass with declarations and two pure functions:

    weigh(rollouts, rewards) -> batch, metrics     no gradient; sees the whole global batch
    regress(logprob_ERT, batch) -> loss, metrics   inside the gradient; sums over examples

`needs` names what the spine must provide: "rewards" (a judge), "pairs" (recorded ones), "sampling" (log pi_t) and
"reference" (log pi_ref). An example has `rows_per_example` completions; `examples` counts those that `weigh` makes.
base.py has the defaults, losses.py the losses.
"""

from dar_jax.algorithms.awr import AWR
from dar_jax.algorithms.best_of_n import BestOfN
from dar_jax.algorithms.dar import DAR, dar_weights
from dar_jax.algorithms.dual_dpo import DualDPO
from dar_jax.algorithms.dual_rebel import DualREBEL
from dar_jax.algorithms.grpo import GRPO
from dar_jax.algorithms.offline_dpo import OfflineDPO
from dar_jax.algorithms.online_dpo import OnlineDPO
from dar_jax.algorithms.online_ipo import OnlineIPO
from dar_jax.algorithms.online_slic import OnlineSLiC
from dar_jax.algorithms.ppo import PPO
from dar_jax.algorithms.rebel import REBEL
from dar_jax.algorithms.reinforce import Reinforce
from dar_jax.algorithms.rloo import RLOO
from dar_jax.algorithms.sft import SFT
from dar_jax.algorithms.var import VAR

Algorithm = (
    DAR
    | AWR
    | VAR
    | BestOfN
    | SFT
    | OfflineDPO
    | OnlineDPO
    | OnlineIPO
    | OnlineSLiC
    | Reinforce
    | RLOO
    | GRPO
    | PPO
    | REBEL
    | DualDPO
    | DualREBEL
)
ALGORITHMS: dict[str, type[Algorithm]] = {kind.name: kind for kind in Algorithm.__args__}

__all__ = ["ALGORITHMS", "DAR", "SFT", "Algorithm", "dar_weights"]
