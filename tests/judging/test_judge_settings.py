import pytest
from pydantic import TypeAdapter, ValidationError

from dar_jax.errors import SettingError
from dar_jax.judging import JUDGES, OpenAIJudge
from dar_jax.settings.fields import one_of

ADAPTER = TypeAdapter(one_of(JUDGES, "scripted"))


@pytest.mark.parametrize("name", ["openai", "gemini", "scripted"])
def test_a_judge_is_chosen_by_name(name):
    settings = ADAPTER.validate_python({"name": name} | ({} if name == "scripted" else {"model": "m"}))
    assert isinstance(settings, JUDGES[name])
    assert settings.mode == ("samples" if name == "gemini" else "logprobs")


def test_settings_survive_the_run_folder():
    settings = ADAPTER.validate_python({"name": "openai", "model": "m", "api_key_file": "~/key"})
    plain = ADAPTER.dump_python(settings, mode="json")
    assert ADAPTER.validate_python(plain) == settings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "openai"}, "model"),
        ({"name": "openai", "model": "m", "base_url": "localhost:8000"}, "expected an address"),
        ({"name": "scripted", "scorer": "taste"}, "expected one of"),
        ({"name": "scripted", "mode": "guess"}, "logprobs"),
        ({"name": "scripted", "levels": 11}, "less than or equal to 10"),
        ({"name": "scripted", "rubric": "tldr", "rubric_text": "mine"}, "keep one"),
        ({"name": "scripted", "rubric_text": " "}, "rubric_text is empty"),
        ({"name": "scripted", "max_failure_share": 1.5}, "less than or equal to 1"),
        ({"name": "scripted", "colour": "red"}, "colour"),
    ],
)
def test_a_mistake_is_named(given, told):
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(given)
    assert told in str(caught.value)


def test_a_missing_key_is_found_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingError, match="OPENAI_API_KEY is not set"):
        OpenAIJudge(model="m").check()
    OpenAIJudge(model="m", base_url="http://127.0.0.1:1/v1").check()
    JUDGES["scripted"]().check()
    with pytest.raises(SettingError, match="OPENAI_API_KEY is not set"):
        OpenAIJudge(model="m").open(tmp_path / "ledger.sqlite")


def test_prices_are_listed_for_the_vendors_own_address_only(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    listed = OpenAIJudge(model="gpt-4.1-mini").open(tmp_path / "a.sqlite")
    elsewhere = OpenAIJudge(model="gpt-4.1-mini", base_url="http://127.0.0.1:1/v1").open(tmp_path / "b.sqlite")
    with listed, elsewhere:
        assert listed._price is not None
        assert elsewhere._price is None


@pytest.mark.parametrize(
    ("count", "concurrency", "calls"), [(1, 8, [8]), (3, 8, [3, 3, 2]), (4, 2, [1, 1, 1, 1]), (2, 32, [16, 16])]
)
def test_hosts_divide_the_rates(count, concurrency, calls):
    judge = OpenAIJudge(model="m", base_url="http://h/v1", concurrency=concurrency, requests_per_minute=90.0)
    shares = [judge.share(index, count) for index in range(count)]
    assert [share.concurrency for share in shares] == calls
    assert [share.requests_per_minute for share in shares] == [90.0 / count] * count
    assert {share.model for share in shares} == {"m"}
    assert judge.share(0, 2).requests_per_minute == 45.0
    assert OpenAIJudge(model="m", base_url="http://h/v1").share(1, 2).requests_per_minute is None
