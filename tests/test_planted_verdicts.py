"""From the judge's answer to the weight that reaches the loss, each number against a closed form."""

import contextlib
import sqlite3

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms import DAR
from dar_jax.batches import Inputs, Rollouts
from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.parallel import MeshShape
from dar_jax.records import Completion, Prompt
from dar_jax.sampling import rewards
from tests import planted
from tests.wires import WIRES, judge_settings

PROMPTS, GROUP, TOKENS = 6, 4, 5


def asked() -> list[Completion]:
    return [
        Completion(prompt=Prompt(id=p, text=f"Prompt {p}."), sample=g, text=f"{p} says {g}.", token_count=3, ended=True)
        for p in range(PROMPTS)
        for g in range(GROUP)
    ]


def rollouts(draw: np.random.Generator) -> Rollouts:
    """Completions of one to five tokens, whose log-probabilities are drawn; NaN where there is no token."""
    rows = PROMPTS * GROUP
    mask_BT = np.arange(TOKENS) < draw.integers(1, TOKENS + 1, (rows, 1))
    sampling_BT, ref_BT = (np.where(mask_BT, -draw.exponential(1, mask_BT.shape), np.nan) for _ in range(2))
    tokens = Inputs(token_BT=jnp.zeros((rows, TOKENS), int), mask_BS=jnp.asarray(mask_BT))
    return Rollouts(
        inputs_B=tokens,
        mask_completion_BT=jnp.asarray(mask_BT),
        ended_B=jnp.ones(rows, bool),
        sampler_logprob_BT=jnp.asarray(sampling_BT, jnp.float32),
        sampling_logprob_BT=jnp.asarray(sampling_BT, jnp.float32),
        ref_logprob_BT=jnp.asarray(ref_BT, jnp.float32),
    )


@pytest.mark.parametrize("wire", WIRES[:2])
def test_a_planted_verdict_reaches_the_loss_as_its_own_weight(wire, tmp_path):
    """Answers come in any order, some never: each reward is its completion's own, and what failed moves nothing."""
    completions, ledger = asked(), tmp_path / "ledger.sqlite"
    settings = ServerSettings(port=0, faults={"drip": 0.4, "refusal": 0.1, "unavailable": 0.1}, drip_s=0.2, seed=5)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(serve(settings, ScriptedModel(name="planted", scorer=planted.moody)))
        judge = opened.enter_context(judge_settings(wire, server, attempts=1).open(ledger))
        verdicts = judge.submit(completions).result()
    with contextlib.closing(sqlite3.connect(ledger)) as filed:
        came = [text for (text,) in filed.execute("SELECT completion FROM answers ORDER BY rowid")]
    submitted = [completion.text for completion in completions if completion.text in came]
    assert came != submitted
    assert {"ok", "failed"} < {verdict.status for verdict in verdicts}

    ok = np.array([verdict.status == "ok" for verdict in verdicts]).reshape(PROMPTS, GROUP)
    levels = [planted.level(completion.text) for completion in completions]
    reward_PG = np.where(ok, np.array([np.nan if each is None else each for each in levels]).reshape(ok.shape), np.nan)
    assert not np.isnan(reward_PG[ok]).any()

    mesh = MeshShape(devices=1).build()
    with jax.set_mesh(mesh):
        sampled, draw = rollouts(np.random.default_rng(0)), np.random.default_rng(1)
        batch, metrics = DAR().weigh(sampled, rewards(verdicts, GROUP, mesh))
        logprob_BT = -draw.exponential(1, sampled.mask_completion_BT.shape)
        loss, _ = DAR().regress(jnp.asarray(logprob_BT, jnp.float32)[:, None], batch)

    mask_BT = np.asarray(sampled.mask_completion_BT)
    ratio_BT = np.asarray(sampled.ref_logprob_BT, float) - np.asarray(sampled.sampling_logprob_BT, float)
    log_ratio_PG = np.where(mask_BT, ratio_BT, 0).sum(1).reshape(ok.shape)
    weight_PG = planted.weights(reward_PG, log_ratio_PG)
    assert len(np.unique(weight_PG)) > 5
    np.testing.assert_allclose(metrics["completion/advantage"], planted.advantages(reward_PG)[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["completion/weight"], weight_PG, rtol=1e-4)
    np.testing.assert_allclose(loss, -(weight_PG.ravel() * np.where(mask_BT, logprob_BT, 0).sum(1)).sum(), rtol=1e-4)


def test_verdicts_in_another_order_are_seen():
    """Were two completions' verdicts exchanged, the closed form would notice."""
    reward_PG = np.array([[1.0, 5.0, 2.0], [9.0, np.nan, 3.0]])
    exchanged_PG = reward_PG[:, [1, 0, 2]]
    assert not np.allclose(
        planted.weights(reward_PG, np.zeros((2, 3))), planted.weights(exchanged_PG, np.zeros((2, 3)))
    )
