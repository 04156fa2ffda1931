"""Between arrays and words: tokens as text for judge and reader, verdicts as rewards for the learner."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from dar_jax.batches import Rewards, Rollouts, check
from dar_jax.parallel import own_rows, rows, to_host
from dar_jax.records import Completion, Prompt, Verdict
from dar_jax.tokens import Tokenizer


def completions(rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[Completion]:
    """Read each row as a Completion, in row order: the G of the first prompt, then the next prompt's."""
    numbers = range(len(rollouts.ended_B))
    return list(_read(numbers, to_host(_spoken(rollouts)), prompts, tokenizer, len(numbers)).values())


def own_completions(
    rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer, mesh: Mesh
) -> dict[int, Completion]:
    """Read the rows that this host answers for, by their numbers."""
    numbers, spoken = own_rows(_spoken(rollouts), len(prompts), mesh)
    return _read(numbers, spoken, prompts, tokenizer, len(rollouts.ended_B))


def _spoken(rollouts: Rollouts) -> tuple[Any, ...]:
    return rollouts.inputs_B.token_BT, rollouts.mask_completion_BT, rollouts.ended_B


def _read(
    numbers: Sequence[int], spoken: tuple[Any, ...], prompts: Sequence[Prompt], tokenizer: Tokenizer, count: int
) -> dict[int, Completion]:
    """Read rows, the `numbers` of `count` in all."""
    token_BS, mask_BT, ended_B = spoken
    token_BT, group_size = token_BS[:, -mask_BT.shape[1] :], count // len(prompts)
    end = tokenizer.template.thought_end
    opened = {number // group_size for number in numbers} if end else set()
    opened = {place for place in opened if tokenizer.opens_thought(prompts[place])}
    return {
        number: Completion(
            prompt=prompts[number // group_size],
            sample=number % group_size,
            text=tokenizer.decode(token_BT[row][mask_BT[row]].tolist()),
            token_count=int(mask_BT[row].sum()),
            ended=bool(ended_B[row]),
            thought_end=end,
            thought_open=number // group_size in opened,
        )
        for row, number in enumerate(numbers)
    }


def rewards(verdicts: Sequence[Verdict], group_size: int, mesh: Mesh) -> Rewards:
    """Lay the verdicts of all rows out as rewards; one without a reward is NaN and not valid, never a number."""
    values = [math.nan if verdict.reward is None else verdict.reward for verdict in verdicts]
    reward_PG = np.array(values, np.float32).reshape(-1, group_size)
    return check(Rewards(**rows({"reward_PG": reward_PG, "valid_PG": np.isfinite(reward_PG)}, mesh)))
