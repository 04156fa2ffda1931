import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_jax.batches import Inputs, Rollouts
from dar_jax.records import Message, Prompt
from dar_jax.sampling import completions
from tests.small_tokenizers import QWEN3_TEMPLATE, SPECIAL, WORDS, tokenizer

EOS, FIRST = SPECIAL.index("</s>"), len(SPECIAL)
TOKENIZER = tokenizer()


def rollouts(spoken, ended, length=6, prompt=(FIRST, FIRST), pad=EOS):
    """Lay out the token ids spoken in each row, behind the same prompt, padded with EOS."""
    rows = [[*prompt, *tokens, *[pad] * (length - len(tokens))] for tokens in spoken]
    mask_BT = np.arange(length) < np.array([len(tokens) for tokens in spoken])[:, None]
    return Rollouts(
        inputs_B=Inputs(
            token_BT=jnp.array(rows, jnp.int32),
            mask_BS=jnp.concatenate([jnp.ones((len(rows), len(prompt)), bool), mask_BT], 1),
        ),
        mask_completion_BT=jnp.asarray(mask_BT),
        ended_B=jnp.array(ended),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_prompts_paired_with_the_wrong_completions(prompts, group, seed):
    """Each row says the number of its prompt and of its sample; so must its record."""
    asked = [Prompt(id=int(i), text=f"prompt {i}") for i in np.random.default_rng(seed).permutation(100)[:prompts]]
    spoken = [[FIRST + p, FIRST + 4 + g, EOS] for p in range(prompts) for g in range(group)]
    words = completions(rollouts(spoken, [True] * len(spoken)), asked, TOKENIZER)
    assert [(word.prompt, word.sample) for word in words] == [(p, g) for p in asked for g in range(group)]
    for word in words:
        number = asked.index(word.prompt)
        assert word.text == f"{WORDS[number]} {WORDS[4 + word.sample]}"


def test_length_inferred_from_index_0():
    """Counts and ends are each row's own: the first row is the shortest and the only one that ended."""
    spoken = [[EOS], [FIRST] * 6, [FIRST, FIRST + 1, FIRST]]
    words = completions(rollouts(spoken, [True, False, False]), [Prompt(id=0, text="")], TOKENIZER)
    assert [word.token_count for word in words] == [1, 6, 3]
    assert [word.ended for word in words] == [True, False, False]
    assert [word.text for word in words] == ["", "the the the the the the", "the cat the"]
    assert all(type(word.token_count) is int and type(word.ended) is bool for word in words)


def test_neither_prompt_nor_padding_is_read_into_the_text():
    told = rollouts([[FIRST + 1]], [False], prompt=(FIRST + 6, FIRST + 7), pad=FIRST + 5)
    assert completions(told, [Prompt(id=0, text="")], TOKENIZER)[0].text == WORDS[1]


def test_a_completion_knows_its_mark_and_whether_the_prompt_opened_a_thought():
    talk = [Prompt(id=i, text="", messages=(Message(role="user", content="the cat"),)) for i in range(2)]
    quiet = Prompt(id=1, text="", messages=talk[1].messages, template_arguments={"enable_thinking": False})
    opens = "{% if enable_thinking is not defined %}<think>\n{% endif %}"
    opening = QWEN3_TEMPLATE.replace("assistant\n{% if enable", "assistant\n" + opens + "{% if enable")
    words = completions(rollouts([[FIRST]] * 4, [True] * 4), [talk[0], quiet], tokenizer(template=opening))
    assert [word.thought_end for word in words] == ["</think>"] * 4
    assert [word.thought_open for word in words] == [True, True, False, False]
    plain = completions(rollouts([[FIRST]], [True]), [Prompt(id=0, text="the cat")], TOKENIZER)
    assert (plain[0].thought_end, plain[0].thought_open) == ("", False)
