"""What transformers computed from the checkpoints of tests/golden/models, and what it computes live."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.models.rope import Rope
from tests.models.score import logits, logprob

GOLDEN = sorted(path.parent for path in (Path(__file__).parent.parent / "golden" / "models").glob("*/config.json"))
NAMES = [path.name for path in GOLDEN]
LIVE = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.mark.parametrize("folder", GOLDEN, ids=NAMES)
def test_logits_and_logprobs_are_those_of_transformers(folder):
    config, params = huggingface.load(folder)
    expected = load_file(folder / "expected.safetensors")
    found = logits(config, params, expected["token"])
    np.testing.assert_allclose(found, expected["logits"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(logprob(found, expected["token"]), expected["logprob"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("folder", GOLDEN[::3], ids=NAMES[::3])
@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 3), (2, 1)])
def test_left_padding_without_position_ids(folder, left, right):
    config, params = huggingface.load(folder)
    expected = load_file(folder / "expected.safetensors")
    pad = [(0, 0), (left, right)]
    mask = np.pad(np.ones(expected["token"].shape, bool), pad)
    found = logits(config, params, np.pad(expected["token"], pad, constant_values=7), mask)
    inner = slice(left, found.shape[1] - right)
    np.testing.assert_allclose(found[:, inner], expected["logits"], rtol=0, atol=1e-4)


def test_rope_base_comes_from_the_file_not_from_a_preset():
    bases = {folder.name: huggingface.read_config(folder).rope.base for folder in GOLDEN}
    assert bases["qwen2-tied"] == bases["qwen3-tied"] == 1e6
    assert bases["qwen2-all-heads"] == bases["qwen3-sharded-bfloat16"] == 777


@pytest.mark.parametrize("folder", GOLDEN[2::3], ids=NAMES[2::3])
def test_another_rope_base_would_be_seen(folder):
    config, params = huggingface.load(folder)
    expected = load_file(folder / "expected.safetensors")
    other = models.DecoderConfig(**{**vars(config), "rope": Rope(base=5e4)})
    assert np.abs(logits(other, params, expected["token"]) - expected["logits"]).max() > 1e-2


@LIVE
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(("kv_heads", "tied"), [(1, True), (3, False), (6, True)])
def test_a_random_model_agrees_with_transformers(tmp_path, family, kv_heads, tied):
    import torch

    from tests.golden.make_models import SIZES, random_model

    sizes = {
        **SIZES,
        "model_type": family,
        "hidden_size": 24,
        "num_attention_heads": 6,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": 4,
        "tie_word_embeddings": tied,
        "head_dim": 8,
        "rope_theta": 31_000.0,
    }
    model = random_model(sizes, seed=kv_heads)
    model.save_pretrained(tmp_path)
    config, params = huggingface.load(tmp_path)
    token = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (3, 50))
    with torch.no_grad():
        expected = model(torch.tensor(token)).logits
    found = logits(config, params, token)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(logprob(found, token), logprob(jnp.asarray(expected.numpy()), token), rtol=0, atol=1e-4)
