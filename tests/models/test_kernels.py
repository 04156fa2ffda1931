"""Fused attention beside our own. The TPU's kernel runs interpreted on a CPU, NVIDIA's cannot: it is only refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import parallel
from dar_jax.errors import SettingError
from dar_jax.models import check_attention
from tests.models.score import draw, logits
from tests.nano import NANO

MIXED = replace(NANO, window=5, local_layers=(True, False), score_cap=3.0)
ROWS, LENGTH = 4, 24


@pytest.fixture(scope="module")
def texts():
    """Padding on the left, on the right, on neither side."""
    mask_BT = np.ones((ROWS, LENGTH), bool)
    mask_BT[0, :7] = mask_BT[1, 20:] = False
    return np.random.default_rng(0).integers(0, 64, (ROWS, LENGTH)), mask_BT


def seen(config, params, texts):
    token_BT, mask_BT = texts
    return jnp.where(mask_BT[..., None], logits(config, params, token_BT, mask_BT), 0.0)


@pytest.mark.parametrize("config", [NANO, replace(NANO, window=5), MIXED], ids=["global", "local", "mixed-capped"])
def test_splash_attends_as_ours(config, texts):
    params = draw(config)
    found = seen(replace(config, attention="splash"), params, texts)
    np.testing.assert_allclose(found, seen(config, params, texts), rtol=0, atol=3e-5)


def test_splash_on_eight_devices_attends_as_on_one(texts):
    params, splash = draw(NANO), replace(NANO, attention="splash")
    with jax.set_mesh(parallel.MeshShape(fsdp=4, tensor=2).build()):
        found = seen(splash, params, texts)
    np.testing.assert_allclose(found, seen(NANO, params, texts), rtol=0, atol=3e-5)


@pytest.mark.slow
def test_splash_learns_as_ours(texts):
    params = draw(MIXED)
    ours, theirs = (
        jax.grad(lambda params, config=config: (seen(config, params, texts) ** 2).mean())(params)
        for config in (MIXED, replace(MIXED, attention="splash"))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6), ours, theirs)


@pytest.mark.parametrize(
    ("config", "platform", "reason"),
    [
        (replace(NANO, attention="splash"), "gpu", "splash does not run on a gpu"),
        (replace(NANO, attention="cudnn"), "tpu", "cudnn does not run on a tpu"),
        (replace(MIXED, attention="cudnn"), "gpu", "cudnn cannot cap scores"),
    ],
)
def test_a_kernel_that_cannot_do_it_is_refused(config, platform, reason):
    with pytest.raises(SettingError, match=f"learning.attention: {reason}.*; choose xla"):
        check_attention(config, platform)


def test_ours_does_it_everywhere():
    for platform in ("cpu", "tpu", "gpu"):
        check_attention(MIXED, platform)
