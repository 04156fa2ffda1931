import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.chat.reply import CACHED_APART, MOST_TOKENS, completion_usage, count, decision_usage, gemini_usage
from dar_jax.records import Usage


def tokens(input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Usage:
    return Usage(input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens)


UNKNOWN = [None, {}, [], "many", {"total_tokens": 600}, {"prompt_tokens": 500}, {"completion_tokens": 1}]
ABSURD = [None, -1, -(10**12), 10**30, MOST_TOKENS + 1, True, "500", 1.5, float("nan"), float("inf"), [500], 0]


@pytest.mark.parametrize("given", UNKNOWN)
def test_missing_usage_is_unknown_and_never_0(given):
    assert completion_usage(given).usage is None


@pytest.mark.parametrize("value", ABSURD)
def test_an_impossible_count_is_unknown(value):
    assert completion_usage({"prompt_tokens": value, "completion_tokens": 1}).usage is None
    assert gemini_usage({"promptTokenCount": value, "candidatesTokenCount": 1}).usage is None
    assert decision_usage({"input_tokens": value, "output_tokens": 1}).usage is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prompt_tokens": 500, "completion_tokens": 1}, tokens(500, 1)),
        ({"prompt_tokens": 500.0, "completion_tokens": 0}, tokens(500, 0)),
        ({"input_tokens": 500, "output_tokens": 1}, tokens(500, 1)),
        ({"prompt_tokens": None, "completion_tokens": None, "input_tokens": 500, "output_tokens": 1}, tokens(500, 1)),
        ({"prompt_tokens": 500, "total_tokens": 501}, tokens(500, 1)),
        ({"completion_tokens": 1, "total_tokens": 501}, tokens(500, 1)),
        # Thinking beside the completion: xAI, some gateways of Gemini.
        ({"prompt_tokens": 500, "completion_tokens": 1, "total_tokens": 1301}, tokens(500, 801)),
        (
            {"prompt_tokens": 500, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 800}},
            tokens(500, 801),
        ),
        # Thinking within it: OpenAI.
        (
            {
                "prompt_tokens": 500,
                "completion_tokens": 801,
                "total_tokens": 1301,
                "completion_tokens_details": {"reasoning_tokens": 800},
            },
            tokens(500, 801),
        ),
        ({"prompt_tokens": 500, "completion_tokens": 9, "total_tokens": -5}, tokens(500, 9)),
        (
            {"prompt_tokens": 500, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 480}},
            tokens(500, 1, 480),
        ),
        (
            {"prompt_tokens": 500, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -1}},
            tokens(500, 1),
        ),
    ],
)
def test_every_format_of_usage_is_read(given, expected):
    assert completion_usage(given) == (expected, "")


@pytest.mark.parametrize("total", [None, 21, 501])
def test_cached_tokens_apart_from_the_input_are_added_and_remarked(total):
    """Proxies of Anthropic's models: 20 prompt and 480 cached tokens would cost less than nothing."""
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 480}}
    assert completion_usage(usage | {"total_tokens": total}) == (tokens(500, 1, 480), CACHED_APART)
    few = {"prompt_tokens": 400, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 100}}
    assert completion_usage(few | {"total_tokens": 501}).usage == tokens(500, 1, 100)


def test_gemini_bills_its_thinking_as_output():
    usage = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 1, "thoughtsTokenCount": 30}
    assert gemini_usage(usage).usage == tokens(9, 31, 4)
    assert gemini_usage({"prompt_token_count": 9, "candidates_token_count": 1}).usage == tokens(9, 1)
    assert gemini_usage({"promptTokenCount": 9, "totalTokenCount": 9}).usage == tokens(9, 0)
    assert gemini_usage({"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 40}).usage == tokens(
        9, 31
    )
    assert gemini_usage({"promptTokenCount": 9}).usage is None


def test_the_output_of_a_decision_is_optional():
    assert decision_usage({"input_tokens": 9}).usage == tokens(9, 0)
    assert decision_usage(
        {"total_input_tokens": 9, "total_thought_tokens": 3, "total_cached_tokens": 4}
    ).usage == tokens(9, 3, 4)
    assert decision_usage({"input_tokens": 9, "output_tokens": -1}).usage is None
    assert decision_usage({"output_tokens": 9}).usage is None


COUNTS = st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.integers(0, 1000))
DETAILS = st.one_of(COUNTS, st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), COUNTS))
NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details"]


@given(st.dictionaries(st.sampled_from([*NAMES, "completion_tokens_details"]), DETAILS))
def test_token_counts_are_consistent_and_bounded(reported):
    usage = completion_usage(reported).usage
    if usage is not None:
        assert 0 <= usage.cached_tokens <= usage.input_tokens < 2**33
        assert usage.input_tokens > 0
        assert 0 <= usage.output_tokens < 2**33


def test_counts_are_integers():
    assert [count(value) for value in (0, 7, 7.0, MOST_TOKENS)] == [0, 7, 7, MOST_TOKENS]
