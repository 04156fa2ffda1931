"""The mini TL;DR: the same posts for everybody, and a tokenizer that knows all their words."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.chat.scripted.scorers.minitldr import facts, score, words
from dar_jax.data import MiniTldr
from dar_jax.data.minitldr import grammar
from dar_jax.data.minitldr.vocabulary import vocabulary, write_tokenizer
from dar_jax.errors import SettingError
from dar_jax.tokens import Tokenizer

ASSETS = Path(__file__).parents[2] / "assets" / "minitldr"
MAX_PROMPT_LENGTH = 64


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(str(ASSETS))


def test_rows_are_addressed_by_seed_split_and_number() -> None:
    small, large = MiniTldr(size=10).load(), MiniTldr(size=50).load()
    assert (len(small), len(large)) == (10, 50)
    assert small[7] == large[7] == MiniTldr(size=8).load()[7]
    assert small.completion(7) == large.completion(7)
    assert small[7].text != MiniTldr(seed=1).load()[7].text


def test_the_set_is_the_same_everywhere_and_for_all_time() -> None:
    source = MiniTldr().load()
    assert source[3].text == (
        "POST: i work as a nurse. the house has a silver door. so my aunt sold my watch. the "
        "weather was warm all week. we were at the market. i drank water all morning. now i am so "
        "confused.\nTL;DR:"
    )
    assert source.completion(3) == "nurse here, my aunt did something, at the market, i feel confused"


def test_train_and_test_share_no_post() -> None:
    train, test = (MiniTldr(split=split, size=3000).load() for split in ("train", "test"))  # type: ignore[arg-type]
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in test}
    assert len({prompt.text for prompt in train}) > 2990


@given(st.integers(0, 10**9))
def test_posts_tell_three_to_six_facts_among_asides(number: int) -> None:
    row = grammar.row(0, "train", number)
    told = dict(facts(row["prompt"]))
    assert len(told) == len(facts(row["prompt"]))
    assert 4 <= len(told) <= 6
    assert {"who", "did", "what"} <= told.keys()
    assert 30 <= len(words(row["prompt"])) <= MAX_PROMPT_LENGTH
    assert row["prompt"].startswith("POST: ")
    assert row["prompt"].endswith("\nTL;DR:")


@given(number=st.integers(0, 10**9))
def test_the_tokenizer_knows_every_word_and_gives_it_back(tokenizer: Tokenizer, number: int) -> None:
    row = grammar.row(0, "test", number)
    prompt_ids, ids = tokenizer.encode_text(row["prompt"]), tokenizer.encode_completion(row["completion"])
    assert 0 not in [*prompt_ids, *ids]
    assert len(prompt_ids) <= MAX_PROMPT_LENGTH
    assert ids[-1] in tokenizer.eos_ids
    assert tokenizer.decode(ids) == row["completion"]


def test_writing_the_tokenizer_again_gives_the_shipped_files(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((ASSETS / name).read_text())
    template = "chat_template.jinja"
    assert (tmp_path / template).read_text() == (ASSETS / template).read_text()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 200_000


def test_the_model_fits_the_tokenizer(tokenizer: Tokenizer) -> None:
    config = json.loads((ASSETS / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.vocab_size == len(vocabulary())
    assert {config["eos_token_id"]} == tokenizer.eos_ids
    assert config["pad_token_id"] == tokenizer.pad_id


def test_pairs_are_ordered_by_the_exact_score() -> None:
    plain, source = MiniTldr(size=200).load(), MiniTldr(size=200, pairs=True).load()
    gains = []
    for number in range(200):
        chosen, rejected = source.pair(number)
        gains.append(score(source[number].text, chosen) - score(source[number].text, rejected))
        assert source[number].text == plain[number].text
        assert source.completion(number) == plain.completion(number)
    assert min(gains) >= 0
    assert sum(gain > 0 for gain in gains) > 150
    with pytest.raises(SettingError, match="has no column 'chosen'"):
        plain.pair(0)
