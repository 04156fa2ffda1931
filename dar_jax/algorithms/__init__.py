"""What to learn from a judged batch: one small file an algorithm, none of which knows the model.

An algorithm is a frozen value with a declaration, `needs`, and two pure functions:

    weigh(rollouts, rewards) -> batch, metrics     no gradient; sees the whole global batch
    regress(logprob_ERT, batch) -> loss, metrics   inside the gradient; sums over examples

`needs` names what the spine must fetch: "rewards" (a judge), "sampling" (log pi_t), "reference" (log pi_ref).
"""

from dar_jax.algorithms.dar import DAR, dar_weights
from dar_jax.algorithms.sft import SFT

ALGORITHMS = {"dar": DAR, "sft": SFT}
Algorithm = DAR | SFT

__all__ = ["ALGORITHMS", "DAR", "SFT", "Algorithm", "dar_weights"]
