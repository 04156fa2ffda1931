"""Conversions between arrays and text: tokens to completions for the judge, verdicts to rewards for the learner."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from dar_jax.batches import Rewards, Rollouts, check
from dar_jax.parallel import local_rows, rows, to_host
from dar_jax.records import Completion, Prompt, Verdict
from dar_jax.tokens import Tokenizer


def completions(rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[Completion]:
    """Return a Completion a row, in row order: the G of the first prompt, then those of the next."""
    numbers = range(len(rollouts.ended_B))
    return list(_read(numbers, to_host(_sampled_tokens(rollouts)), prompts, tokenizer, len(numbers)).values())


def local_completions(
    rollouts: Rollouts, prompts: Sequence[Prompt], tokenizer: Tokenizer, mesh: Mesh
) -> dict[int, Completion]:
    """Return the completions of the rows owned by this process, by global row."""
    numbers, sampled = local_rows(_sampled_tokens(rollouts), len(prompts), mesh)
    return _read(numbers, sampled, prompts, tokenizer, len(rollouts.ended_B))


def _sampled_tokens(rollouts: Rollouts) -> tuple[Any, ...]:
    return rollouts.inputs_B.token_BT, rollouts.mask_completion_BT, rollouts.ended_B


def _read(
    numbers: Sequence[int], sampled: tuple[Any, ...], prompts: Sequence[Prompt], tokenizer: Tokenizer, count: int
) -> dict[int, Completion]:
    """Return the completions of these rows; `numbers` are their global rows out of `count`."""
    token_BS, mask_BT, ended_B = sampled
    token_BT, group_size = token_BS[:, -mask_BT.shape[1] :], count // len(prompts)
    end = tokenizer.template.thought_end
    opened = {number // group_size for number in numbers} if end else set()
    opened = {index for index in opened if tokenizer.opens_thought(prompts[index])}
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
    """Return the verdicts of all rows as sharded rewards; one without a reward is NaN and not valid."""
    values = [math.nan if verdict.reward is None else verdict.reward for verdict in verdicts]
    reward_PG = np.array(values, np.float32).reshape(-1, group_size)
    return check(Rewards(**rows({"reward_PG": reward_PG, "valid_PG": np.isfinite(reward_PG)}, mesh)))
