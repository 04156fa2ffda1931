"""Verdicts that are known for every completion, and what DAR makes of them: written down again, in float64, by hand."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dar_jax.chat.failures import Rejected


def level(completion: str) -> float | None:
    """Give a completion's reward, None where its judge fails: one in seven."""
    digest = zlib.crc32(completion.encode())
    return None if digest % 7 == 0 else 1 + digest % 901 / 100


def moody(prompt: str, completion: str) -> float:
    """Score as planted; refuse where a failure is planted."""
    found = level(completion)
    if found is None:
        raise Rejected("a planted failure")
    return found


def advantages(reward_PG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take each group's mean away and divide by the batch's deviation, over the scored (not NaN) of groups with two."""
    used_PG = ~np.isnan(reward_PG) & ((~np.isnan(reward_PG)).sum(1, keepdims=True) >= 2)
    centred_PG = np.full(reward_PG.shape, np.nan)
    for group, used_G in enumerate(used_PG):
        if not used_G.any():
            continue
        centred_PG[group, used_G] = reward_PG[group, used_G] - reward_PG[group, used_G].mean()
    found_PG = np.zeros(reward_PG.shape)
    found_PG[used_PG] = (centred_PG[used_PG] - centred_PG[used_PG].mean()) / centred_PG[used_PG].std()
    return found_PG, used_PG


def weights(
    reward_PG: np.ndarray, log_ref_over_sampling_PG: np.ndarray, rho: float = 0.1, tau: float = 0.05, clip: float = 20.0
) -> np.ndarray:
    """Give min((pi_ref/pi_t)^rho exp(A/tau), clip), 0 where nothing is learnt."""
    advantage_PG, used_PG = advantages(reward_PG)
    exponent_PG = rho * log_ref_over_sampling_PG + advantage_PG / tau
    return np.where(used_PG, np.exp(np.minimum(exponent_PG, np.log(clip))), 0.0)


def assert_first_step_as_planted(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check a run's logged completions of its first step, when the policy still is the reference."""
    first = [row for row in rows if row["step"] == 1]
    for row in first:
        assert row["reward"] is None or abs(row["reward"] - level(row["completion"])) < 1e-5
        assert (row["verdict"] == "ok") == (level(row["completion"]) is not None)
    group_size = 1 + max(row["sample"] for row in first)
    rewards = [np.nan if row["reward"] is None else row["reward"] for row in first]
    reward_PG = np.array(rewards).reshape(-1, group_size)
    assert np.isnan(reward_PG).any()
    columns = {"advantage": advantages(reward_PG)[0], "weight": weights(reward_PG, np.zeros(reward_PG.shape))}
    for name, expected_PG in columns.items():
        found = np.array([row[name] for row in first])
        np.testing.assert_allclose(found, expected_PG.ravel(), rtol=1e-4, atol=1e-5, err_msg=name)
