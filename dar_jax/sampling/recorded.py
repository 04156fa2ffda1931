"""Recorded completions as rollouts, in the form of the sampler's, for SFT and offline methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from dar_jax import parallel
from dar_jax.batches import Inputs, Rollouts, check
from dar_jax.sampling.sampler import bucket
from dar_jax.tokens import pad


def recorded(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    max_prompt_length: int,
    max_completion_length: int,
    mesh: Mesh,
) -> Rollouts:
    """Return rollouts of prompt and completion tokens; too long completions are truncated and have not `ended`."""
    size = bucket(max(map(len, prompts)), max_prompt_length)
    kept = [tokens[:max_completion_length] for tokens in completions]
    length = bucket(max(map(len, kept)), max_completion_length)
    prompt_BS, mask_prompt_BS = pad(prompts, 0, side="left", length=size)
    token_BT, mask_BT = pad(kept, 0, side="right", length=length)
    token_BS = np.concatenate([prompt_BS, token_BT], 1)
    arrays: dict[str, Any] = {
        "inputs_B": {"token_BT": token_BS, "mask_BS": np.concatenate([mask_prompt_BS, mask_BT], 1)},
        "mask_completion_BT": mask_BT,
        "ended_B": np.array([len(tokens) <= max_completion_length for tokens in completions]),
    }
    placed = parallel.rows(arrays, mesh)
    return check(Rollouts(**placed | {"inputs_B": Inputs(**placed["inputs_B"])}))
