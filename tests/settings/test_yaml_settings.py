"""Settings files and overrides: text as written, numbers as YAML, no environment variables."""

import json
import time

import pytest

from dar_jax.config.config_file import parse_config, read_config, to_yaml
from dar_jax.errors import SettingError
from dar_jax.settings.yaml_settings import merged, written

TEXT = """
policy: {path: p}
data: {path: d.jsonl}
judge: {name: openai, model: m, base_url: "http://127.0.0.1:8931/v1"}
"""


def _parse(*overrides, text=TEXT):
    return parse_config(text, overrides, where="run.yaml")


def _refused(*overrides, text=TEXT):
    with pytest.raises(SettingError) as caught:
        _parse(*overrides, text=text)
    assert len(str(caught.value).splitlines()) == 1, caught.value
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "Be brief. # 3 words",
        "!important",
        "one\ntwo",
        "a: b",
        "no",
        "0123456",
        "12345",
        "1e-6",
        "{a}",
        "[a] b",
        "- a",
        "'a' b",
    ],
)
def test_text_is_read_as_written(text):
    assert _parse(f"tokenizer.system={text}").tokenizer.system == text
    assert _parse(f"judge.rubric_text={text}").judge.rubric_text == text


def test_quotes_force_text():
    assert _parse("tokenizer.system='it''s'").tokenizer.system == "it's"
    assert _parse('tokenizer.system="null"').tokenizer.system == "null"
    assert _parse(r'tokenizer.system="a\nb"').tokenizer.system == "a\nb"
    assert _parse('tokenizer.template_arguments.a="5"').tokenizer.template_arguments == {"a": "5"}


def test_unquoted_text_in_a_file_stays_text():
    data, judge = "{path: d, subset: no, revision: 0123456}", "{name: openai, model: 4, closed: off}"
    text = f"{{policy: {{path: 12345}}, data: {data}, judge: {judge}}}"
    config = _parse(text=text)
    assert (config.policy.path, config.data.subset, config.data.revision) == ("12345", "no", "0123456")
    assert (config.judge.model, config.judge.closed) == ("4", "off")
    assert parse_config(to_yaml(config), where="again") == config


@pytest.mark.parametrize("value", ["5 # five", "!!int 5", "&a 5", "1\n2", "--- 5", "[1, 2", "5 \t#"])
def test_a_value_that_yaml_does_not_read_whole_is_refused(value):
    assert "steps" in _refused(f"steps={value}")
    assert "quotes around text" in _refused(f"tokenizer.template_arguments.a={value}")


@pytest.mark.parametrize("steps", ["1:30", "0x10", "true", "yes", "1e30", ".inf", "1_000_000_000_000", "''"])
def test_an_invalid_count_is_refused(steps):
    assert "steps: got" in _refused(f"steps={steps}")
    assert "steps: got" in _refused(text=f"{TEXT}\nsteps: {steps}\n")


def test_numbers_are_read_as_people_write_them():
    assert _parse("steps=1e3").steps == 1000
    assert _parse("steps=010").steps == 10
    assert _parse("learning.optimizer.learning_rate=1e-6").learning.optimizer.learning_rate == 1e-6
    assert _parse("tokenizer.template_arguments={a: off, b: 1.5, c: 1:30}").tokenizer.template_arguments == {
        "a": False,
        "b": 1.5,
        "c": "1:30",
    }


def test_a_whole_component_replaces_the_file_s():
    judge = _parse("judge={name: openai, model: gpt-4.1-mini}").judge
    assert (judge.model, judge.base_url) == ("gpt-4.1-mini", "https://api.openai.com/v1")
    assert "judge.model: missing" in _refused("judge={name: openai}")
    assert _parse("judge={name: openai, model: a}", "judge.model=b").judge.model == "b"
    assert _parse("sampling={top_k: 3}", text=f"{TEXT}\nsampling: {{top_p: 0.5}}").sampling.top_p == 1.0


def test_null_means_the_default():
    assert _parse("judge.base_url=null").judge.base_url == "https://api.openai.com/v1"
    assert _parse("steps=null", "judge.levels=null", text=f"{TEXT}\nsteps: 3").steps == 100
    assert _parse("sampling=null", text=f"{TEXT}\nsampling: {{top_p: 0.5}}").sampling.top_p == 1.0
    assert "policy: got None" in _refused("policy=null")


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    config = _parse(
        "data.path=~/d.jsonl", "ledger=~/l", "judge.api_key_file=~/k", "policy.path=~/p", "tokenizer.path=~"
    )
    assert (config.data.path, str(config.ledger), config.policy.path) == (
        "/somewhere/d.jsonl",
        "/somewhere/l",
        "/somewhere/p",
    )
    assert (str(config.judge.api_key_file), config.tokenizer.path) == ("/somewhere/k", "/somewhere")


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET}",
        "a ${oc.env:SECRET,none}",
        "${oc.decode:${oc.env:SECRET}}",
        "${oc.create:{a: 1}}",
        "${mine:SECRET}",
        "${ oc.env:SECRET}",
        "${oc.${x}:SECRET}",
        "\\\\${oc.env:SECRET}",
    ],
)
@pytest.mark.parametrize(
    "key", ["tokenizer.system", "judge.model", "judge.rubric_text", "judge.extra_body", "judge.base_url"]
)
def test_the_environment_is_not_read(key, text, monkeypatch):
    monkeypatch.setenv("SECRET", "sk-secret")
    value = json.dumps({"a": text} if key == "judge.extra_body" else text)
    said = _refused(f"{key}={value}")
    assert "judge.api_key_env" in said
    assert "sk-secret" not in said
    top, name = key.split(".")
    section = "{name: openai, %s: %s}" if top == "judge" else "{%s: %s}"
    text = TEXT.replace(TEXT[TEXT.index("judge:") :], "") if top == "judge" else TEXT
    assert "judge.api_key_env" in _refused(text=f"{text}\n{top}: {section % (name, value)}\n")


def test_references_to_other_settings():
    text = (
        f"{TEXT}\nseed: 3\nledger: runs/${{seed}}/${{data.path}}\nsteps: ${{seed}}\nsampling: {{top_k: '${{steps}}'}}"
    )
    config = _parse(text=text)
    assert (str(config.ledger), config.steps, config.sampling.top_k) == ("runs/3/d.jsonl", 3, 3)
    assert _parse(r"tokenizer.system=\${seed}", text=text).tokenizer.system == "${seed}"
    assert "refers to itself" in _refused(text=f"{TEXT}\nseed: ${{steps}}\nsteps: ${{seed}}")
    assert "nothing is not in the file" in _refused(text=f"{TEXT}\nseed: ${{nothing}}")


_LAUGHS = "\n".join(["a0: &a0 [lol, lol]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 30))])
_LOUDER = "\n".join(["a0: lol", *(f"a{i}: ['${{a{i - 1}}}', '${{a{i - 1}}}', '${{a{i - 1}}}']" for i in range(1, 40))])
_LONGER = "\n".join(["a0: lol", *(f"a{i}: '${{a{i - 1}}}${{a{i - 1}}}${{a{i - 1}}}'" for i in range(1, 40))])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_LAUGHS, "aliases"),
        (_LOUDER, "references expand to more than"),
        (_LONGER, "references expand to more than"),
        ("a: " + "[" * 10_000, "nested deeper"),
        ("a: " + "{a: " * 100, "nested deeper"),
        ("a: &x [*x]", "contains itself"),
        ("steps: 1\nsteps: 2", "duplicate key 'steps'"),
        ("policy: {path: a, path: b}", "duplicate key 'path'"),
        ("? [a]\n: 1", "a key is a list"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: 1\n---\nb: 2", "second document"),
        ("- a", "got a list"),
        ("word", "got text"),
        ("a: \x00", "characters are not allowed"),
        ("a: b: c", "not readable as YAML"),
        ("x" * 2_000_000, "longer than"),
    ],
)
def test_a_hostile_file_is_one_line_in_bounded_time(text, said):
    began = time.monotonic()
    assert said in _refused(text=text)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "got a folder"), (b"\x98\x00\xff", "not UTF-8 text"), (b"a" * 1_000_001, "larger than")],
)
def test_an_unreadable_settings_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "config.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingError, match=said) as caught:
        read_config(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_long_value_is_truncated_in_its_message():
    long = "x" * 20_000
    for override in (
        *(f"steps={long}", f"sampling={list(range(500))}", f"algorithm.name={long}"),
        f"judge={{name: scripted, rubric_file: {long}}}",
    ):
        assert len(_refused(override)) < 900


def test_a_flow_mapping_may_hold_a_question_mark():
    assert merged("{a: Is it short?}", ["b={c: [Is it, too?], é😀: {d: Why?}}"], where="run.yaml") == {
        "a": "Is it short?",
        "b": {"c": ["Is it", "too?"], "é😀": {"d": "Why?"}},
    }


def test_what_is_written_is_read_back():
    settings = {
        "a": [
            "1:30",
            "no",
            "1e-6",
            "0123",
            "~",
            "null",
            "",
            " x ",
            "a\nb",
            "${b}",
            "\\${b}",
            "# x",
            "é😀",
            "2026-01-01",
        ],
        "b": {"c": 1e-7, "d": True, "e": None, "f": -3, "1": 2.5},
    }
    assert merged(written(settings), where="again") == settings
    assert merged("", [f"x={json.dumps(settings['a'][8])}"], where="again") == {"x": "a\nb"}


def test_an_override_reaches_one_judge_of_a_panel():
    text = TEXT.replace("judge: ", "judge: {name: panel, judges: [{name: scripted}, ").replace('/v1"}', '/v1"}]}')
    judges = _parse("judge.judges.1.model=other", text=text).judge.judges
    assert (judges[0].name, judges[1].model) == ("scripted", "other")
    assert "there are 2 items" in _refused("judge.judges.2.model=other", text=text)
