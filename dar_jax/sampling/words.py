"""Between arrays and words: tokens as text for judge and reader, verdicts as rewards for the learner."""

import math
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from dar_jax.batches import Rewards, Rollouts, check
from dar_jax.parallel import rows, to_host
from dar_jax.records import Completion, Prompt, Verdict
from dar_jax.tokens import Tokenizer


def completions(rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[Completion]:
    """Read each row as a Completion, in row order: the G of the first prompt, then the next prompt's."""
    length = rollouts.mask_completion_BT.shape[1]
    token_BT = to_host(rollouts.inputs_B.token_BT)[:, -length:]
    mask_BT, ended_B = to_host((rollouts.mask_completion_BT, rollouts.ended_B))
    group_size = len(token_BT) // len(prompts)
    return [
        Completion(
            prompt=prompts[row // group_size],
            sample=row % group_size,
            text=tokenizer.decode(token_BT[row][mask_BT[row]].tolist()),
            token_count=int(mask_BT[row].sum()),
            ended=bool(ended_B[row]),
        )
        for row in range(len(token_BT))
    ]


def rewards(verdicts: Sequence[Verdict], group_size: int, mesh: Mesh) -> Rewards:
    """Lay the verdicts of all rows out as rewards; one without a reward is NaN and not valid, never a number."""
    values = [math.nan if verdict.reward is None else verdict.reward for verdict in verdicts]
    reward_PG = np.array(values, np.float32).reshape(-1, group_size)
    return check(Rewards(**rows({"reward_PG": reward_PG, "valid_PG": np.isfinite(reward_PG)}, mesh)))
