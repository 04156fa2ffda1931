"""From words to the learner: the ids that were encoded and the ids that were sampled are the ids that are learnt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_jax import models
from dar_jax.algorithms import SFT
from dar_jax.parallel import MeshShape, to_host
from dar_jax.records import Message, Prompt
from dar_jax.sampling import Sampler, Sampling, completions, recorded
from tests.nano import NANO
from tests.small_tokenizers import BOS_TEMPLATE, SPECIAL, WORDS, tokenizer

GROUP = 4
VOCABULARY = len(SPECIAL) + len(WORDS)
DECODER = dataclasses.replace(NANO, vocab_size=VOCABULARY)
TOKENIZER = tokenizer(template=BOS_TEMPLATE, adds_bos=True, pad_token="</s>")
MESH = MeshShape(devices=1).build()
texts = st.lists(st.sampled_from(WORDS[:8]), min_size=1, max_size=6).map(" ".join)


@pytest.fixture(scope="module")
def sample():
    """Draw from a random policy, which says every token there is: special ones, pads and words alike."""
    limits = Sampling(max_prompt_length=16, max_completion_length=12)
    ends = TOKENIZER.eos_ids
    sampler = Sampler(limits, DECODER, MESH, eos_ids=ends, pad_id=TOKENIZER.pad_id)
    params = jax.jit(models.init, static_argnums=0)(DECODER, jax.random.key(0))
    return lambda prompts, seed: sampler.sample(
        params, TOKENIZER.encode_prompts(prompts), [0, 1], GROUP, jax.random.key(seed)
    )


def _rows(inputs_B, length):
    """Cut each row into the ids of its prompt and those behind it, by the masks alone."""
    token_BS, mask_BS = to_host((inputs_B.token_BT, inputs_B.mask_BS))
    start = token_BS.shape[1] - length
    return [
        (t[:start][m[:start]].tolist(), t[start:][m[start:]].tolist()) for t, m in zip(token_BS, mask_BS, strict=True)
    ]


@settings(max_examples=15, deadline=None)
@given(st.tuples(texts, texts), st.booleans(), st.integers(0, 1000), st.permutations(range(2 * GROUP)))
def test_completion_re_tokenised_from_text(sample, words, talk, seed, order):
    """Ids reach the learner as the sampler drew them, prompts as they were encoded, whatever their text gives again."""
    turns = [(Message(role="user", content=text),) if talk else None for text in words]
    prompts = [Prompt(id=i, text=t, messages=m) for i, (t, m) in enumerate(zip(words, turns, strict=True))]
    rollouts = sample(prompts, seed)
    drawn = _rows(rollouts.inputs_B, 12)
    learnt = SFT().weigh(rollouts)[0].take(jnp.asarray(order))
    rows = _rows(jax.tree.map(lambda leaf: leaf[:, 0], learnt.inputs_ER), 12)
    assert rows == [drawn[row] for row in order]
    assert [row[0] for row in rows] == [TOKENIZER.encode_prompt(prompts[row // GROUP]) for row in order]
    mask_BT = to_host(learnt.mask_completion_ERT)[:, 0]
    assert [len(row[1]) for row in rows] == mask_BT.sum(1).tolist()
    spoken = completions(rollouts, prompts, TOKENIZER)
    # Text loses the special tokens: whoever encoded it again would teach the learner other ids.
    assert any(TOKENIZER.encode_completion(each.text) != drawn[row][1] for row, each in enumerate(spoken))


@settings(max_examples=20, deadline=None)
@given(texts, texts)
def test_a_recorded_completion_reaches_the_learner_as_encoded(prompt, completion):
    ids = TOKENIZER.encode_completion(completion)
    given_ids = TOKENIZER.encode_prompt(Prompt(id=0, text=prompt))
    rollouts = recorded([given_ids] * GROUP, [ids] * GROUP, 16, 8, MESH)
    batch = SFT().weigh(rollouts)[0]
    rows = _rows(jax.tree.map(lambda leaf: leaf[:, 0], batch.inputs_ER), rollouts.mask_completion_BT.shape[1])
    assert rows == [(given_ids, ids)] * GROUP
    assert ids[-1] == TOKENIZER.eos_id == TOKENIZER.pad_id
    assert np.asarray(batch.mask_completion_ERT).sum() == GROUP * len(ids)
