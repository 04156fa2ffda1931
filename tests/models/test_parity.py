"""Every family and configuration beside transformers: `pytest tests/models -m parity` prints the matrix.

Four rows of one batch hold a text bare and padded on either side; transformers reads each bare. What is compared,
largest absolute difference over real positions: the hidden states after every layer (through the last norm),
logits, log-probs, and token-by-token decoding with a cache beside our own full pass.
"""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import models
from dar_jax.batches import Inputs
from dar_jax.checkpoints import huggingface
from tests.models.parity import MATRIX, SIZES, sizes
from tests.models.score import logits, logprob

LENGTH, PADDING, TOLERANCE = 24, ((0, 0), (7, 0), (0, 7), (4, 3)), 1e-4
CASES = [(family, name) for family, configurations in MATRIX.items() for name in configurations]
LAST = {family: list(configurations)[-1] for family, configurations in MATRIX.items()}
# One configuration of each family is compared every time, the others by `-m slow` and `-m parity`.
PARAMS = [pytest.param(case, marks=() if LAST[case[0]] == case[1] else pytest.mark.slow) for case in CASES]
pytestmark = pytest.mark.parity


def rows():
    """Draw the batch: tokens and mask."""
    token_BT = np.random.default_rng(0).integers(3, SIZES["vocab_size"], (len(PADDING), LENGTH))
    position_T = np.arange(LENGTH)
    mask_BT = np.array([(position_T >= left) & (position_T < LENGTH - right) for left, right in PADDING])
    return token_BT, mask_BT


def theirs(model, token_BT, mask_BT):
    """Run transformers on each row bare; logits, and every layer's hidden states through the last norm."""
    import torch

    found = []
    for token_T, mask_T in zip(token_BT, mask_BT, strict=True):
        with torch.no_grad():
            out = model(torch.tensor(token_T[mask_T])[None], output_hidden_states=True)
            inner = [model.model.norm(hidden) for hidden in out.hidden_states[1:-1]]
        found.append((out.logits[0].numpy(), [each[0].numpy() for each in (*inner, out.hidden_states[-1])]))
    return found


@ft.partial(jax.jit, static_argnums=0)
def hidden(config, params, token_BT, mask_BT):
    """Give the hidden states after the last norm."""
    return models.bind(config, params)(Inputs(token_BT=token_BT, mask_BS=mask_BT))[0]


def up_to(params, depth):
    """Silence the layers from `depth` on: what they would add to the residual becomes zero."""

    def silence(path, leaf):
        names = [key.key for key in path]
        return leaf.at[depth:].set(0) if names[-1] == "kernel" and names[-2] in ("output", "down") else leaf

    return jax.tree_util.tree_map_with_path(silence, params)


@ft.partial(jax.jit, static_argnums=0)
def decoded(config, params, token_BT, mask_BT):
    """Give the logits of reading token by token."""
    model, position_BT = models.bind(config, params), models.positions(mask_BT)

    def step(cache, offset):
        token_B1, position_B1 = (
            jax.lax.dynamic_slice_in_dim(each, offset, 1, axis=1) for each in (token_BT, position_BT)
        )
        inputs = Inputs(token_BT=token_B1, mask_BS=mask_BT)
        hidden_B1D, cache = model(inputs, position_BT=position_B1, cache=cache, offset=offset)
        return cache, model.logits(hidden_B1D[:, 0])

    empty = models.Cache.zeros(config, *token_BT.shape, jnp.float32)
    return jax.lax.scan(step, empty, jnp.arange(token_BT.shape[1]))[1].swapaxes(0, 1)


@pytest.fixture(scope="module", params=PARAMS, ids=["-".join(case) for case in CASES])
def case(request, tmp_path_factory):
    """Make a random checkpoint with transformers, and read it as a user's."""
    pytest.importorskip("torch")
    from tests.golden.make_models import random_model

    family, name = request.param
    folder = tmp_path_factory.mktemp(family)
    model = random_model(sizes(family, name), seed=CASES.index(request.param))
    model.save_pretrained(folder)
    return (*request.param, model, *huggingface.load(folder))


def test_every_layer_every_padding_and_decoding_agree(case, record_property):
    family, name, model, config, params = case
    token_BT, mask_BT = map(jnp.asarray, rows())
    full_BTV = logits(config, params, token_BT, mask_BT)
    layers_LBTD = [hidden(config, up_to(params, depth + 1), token_BT, mask_BT) for depth in range(config.layers)]
    errors = {"layers": 0.0, "logits": 0.0, "log-probs": 0.0}
    for row, (expected_TV, expected_LTD) in enumerate(theirs(model, *rows())):
        token_T, found_TV = token_BT[row][mask_BT[row]], full_BTV[row][mask_BT[row]]
        inner = [
            np.abs(ours[row][mask_BT[row]] - each).max() for ours, each in zip(layers_LBTD, expected_LTD, strict=True)
        ]
        both = (logprob(jnp.asarray(each)[None], token_T[None]) for each in (found_TV, expected_TV))
        seen = {
            "layers": max(inner),
            "logits": np.abs(found_TV - expected_TV).max(),
            "log-probs": np.abs(np.subtract(*both)).max(),
        }
        errors = {key: max(errors[key], float(seen[key])) for key in errors}
    gap_BTV = np.abs(decoded(config, params, token_BT, mask_BT) - full_BTV)
    errors["decoding"] = float(gap_BTV[mask_BT].max())
    record_property("parity", (family, name, errors))
    assert max(errors.values()) < TOLERANCE, errors


def test_the_comparison_would_see_a_difference(case):
    """What a family or configuration switches on changes its numbers by more than the tolerance."""
    *_, config, params = case
    token_BT, mask_BT = rows()
    plain = {"window": None, "local_layers": (), "local_rope": None, "score_cap": None, "logit_cap": None}
    without = models.DecoderConfig(**{**vars(config), **plain, "rope": type(config.rope)(base=config.rope.base)})
    if without == config:
        pytest.skip("nothing beyond the plain decoder is on")
    gap = np.abs(logits(without, params, token_BT, mask_BT) - logits(config, params, token_BT, mask_BT))
    assert gap[mask_BT].max() > 1e-2
