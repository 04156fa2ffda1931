"""Chat templates that nobody should trust: each ends with one line, in bounded time and memory."""

import resource
import time

import pytest

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import bounded_jinja
from tests.small_families import FAMILIES, write
from tests.small_tokenizers import OPEN_THOUGHT_TEMPLATE, QWEN3_TEMPLATE, TOOLS_TEMPLATE, hf, tokenizer

TALK = Prompt(id=0, text="the cat", messages=(Message(role="user", content="the cat"),))
_GROWING = "{{% set ns = namespace(x='aaaaaaaaaa', l=[1]) %}}{{% for i in range(60) %}}{}{{% endfor %}}"
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = 1 %}{% endfor %}{% endfor %}",
    "lists": "{% set l = [1, 2, 3, 4, 5, 6, 7, 8, 9] %}" + "{% for a in l %}" * 12 + "." + "{% endfor %}" * 12,
    "filtered": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "times": "{{ 'a' * 10000000000 }}",
    "list times": "{{ ([1] * 99999999999) | length }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "squares": _GROWING.format("{% set ns.i = (ns.i or 99999) * (ns.i or 99999) %}"),
    "concatenation": _GROWING.format("{% set ns.x = ns.x ~ ns.x %}"),
    "sum": _GROWING.format("{% set ns.x = ns.x + ns.x %}"),
    "lists sum": _GROWING.format("{% set ns.l = ns.l + ns.l %}"),
    "blocks": _GROWING.format("{% set t %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = t %}"),
    "replace": _GROWING.format("{% set ns.x = ns.x | replace('a', ns.x) %}"),
    "replace method": _GROWING.format("{% set ns.x = ns.x.replace('a', ns.x) %}"),
    "join": _GROWING.format("{% set ns.x = ns.x | join(ns.x) %}"),
    "join method": _GROWING.format("{% set ns.x = ns.x.join(ns.x) %}"),
    "accumulation": "{% set ns = namespace(l=[]) %}{% for a in range(999) %}{% set ns.l = ns.l + ['a' * 999999] %}"
    "{% endfor %}",
    "center": "{{ 'a' | center(10000000000) }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "width": "{{ '%9999999999d' % 1 }}",
    "width filter": "{{ '%9999999999d' | format(1) }}",
    "width method": "{{ '{:9999999999}'.format(1) }}",
    "computed width": "{{ '{:{}}'.format(1, 9999999999) }}",
    "width by attr": "{% set f = '{:9999999999}' | attr('format') %}{{ f(1) }}",
    "translate": "{{ 'a'.translate({97: 'b'}) }}",
    "indent": "{{ [1] | tojson(indent=10000000000) }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "recursive loop": "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "search": "{% set x = 'a' * 999999 %}{% for a in range(99999) %}{% if 'ab' in x %}{% endif %}{% endfor %}",
    "slices": "{% set x = 'a' * 999999 %}{% for a in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "output": "{% set x = 'a' * 9999 %}{% for a in range(99999) %}{{ x }}{% endfor %}",
    "date": "{{ strftime_now('%99999999d') }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}",
    "extends": "{% extends '/etc/passwd' %}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "namespace": "{% set ns = namespace(__class__=1) %}",
    "syntax": "{% for %}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "size": "a" * (bounded_jinja.MAX_SOURCE_CHARS + 1),
    "division": "{{ 1 / 0 }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_one_line_in_bounded_time_and_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_jinja, "MAX_STEPS", 20_000)
    monkeypatch.setattr(bounded_jinja, "MAX_CHARS", 1 << 20)
    template, before = HOSTILE[name], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words, began = tokenizer(template=template), time.perf_counter()
    with pytest.raises(SettingError, match=r"^tokenizer\.chat_template: the template of .* refuses") as caught:
        words.encode_prompt(TALK)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.perf_counter() - began < bounded_jinja.MAX_SECONDS + 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_the_clock_ends_what_the_steps_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_jinja, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(bounded_jinja, "_CLOCK_EVERY", 1)
    with pytest.raises(SettingError, match="it runs for more than 0 s"):
        tokenizer(template="{% for a in range(99) %}.{% endfor %}").encode_prompt(TALK)


def test_a_long_conversation_is_far_from_the_bounds() -> None:
    turns = tuple(
        Message(role=("user", "assistant")[i % 2], content="the cat sat on the mat " * 20) for i in range(999)
    )
    words = tokenizer(template=QWEN3_TEMPLATE)
    words.encode_prompt(Prompt(id=0, text="", messages=turns))
    from dar_jax.tokens.template import _compiled

    assert _compiled(QWEN3_TEMPLATE)._environment._left > 0.8 * bounded_jinja.MAX_STEPS


TURNS = [
    {"role": "system", "content": "a 'dog' <b> é"},
    {"role": "user", "content": " the cat "},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nsat"},
    {"role": "user", "content": "on"},
]


@pytest.mark.parametrize("name", [*FAMILIES, "qwen3 thinking", "opened", "tools"])
def test_a_template_writes_what_transformers_would(name: str, tmp_path: object) -> None:
    own = {"qwen3 thinking": QWEN3_TEMPLATE, "opened": OPEN_THOUGHT_TEMPLATE, "tools": TOOLS_TEMPLATE}
    if name in own:
        built = hf(template=own[name])
    else:
        from transformers import PreTrainedTokenizerFast

        built = PreTrainedTokenizerFast.from_pretrained(str(write(name, tmp_path)))  # type: ignore[arg-type]
    from dar_jax.tokens.template import Template

    tools = [{"name": "mat", "note": "é <b>"}] if name == "tools" else None
    for turns in (TURNS, TURNS[1:], TURNS[3:]):
        for asked in (True, False):
            given = {"add_generation_prompt": asked, "tools": tools}
            try:
                expected = built.apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024", **given)
            except Exception:
                with pytest.raises(SettingError, match="refuses a conversation"):
                    Template(built, "small", {}).render(turns, **given)
                continue
            assert Template(built, "small", {}).render(turns, **given) == expected
