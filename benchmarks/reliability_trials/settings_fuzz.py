"""Nonsense for every setting: it is refused in lines that name the key, or it is a value like any other."""

from collections.abc import Iterator
from typing import Any

from dar_jax.config.config_file import parse_config
from dar_jax.config.run_config import flat
from dar_jax.errors import SettingError
from reliability_trials.outcomes import Outcome

VALUES = (
    *(".inf", "-.inf", ".nan", "1e308", "-1e308", "1e-308", "-1", "0", "0.5", "true", "false", "null", "~", "1:30"),
    *("1" + "0" * 30, "''", "'   '", "text", "[]", "[1]", "{}", "{a: 1}", "${oc.env:HOME}", "${nowhere}", "'#'"),
    *("!!python/object:os.system x", "0x10", "0b1", "1_000", "2026-11-30", "a: b", "*", "&a 1", "\u202e", "x" * 20_000),
)
VARIANTS: tuple[list[str], ...] = (
    [],
    ["algorithm={name: ppo}"],
    ["algorithm={name: grpo}"],
    ["algorithm={name: dual_dpo}"],
    ["learning.optimizer={name: adamw}"],
    ["judge={name: openai, model: m}"],
    ["judge={name: gemini, model: m}"],
    ["judge={name: panel, judges: [{name: scripted}, {name: scripted, scorer: minitldr}]}"],
)
# What no number may be.
_NEVER = frozenset((".inf", "-.inf", ".nan", "1e308", "-1e308", "true", "false", "1" + "0" * 30))
_TEXT = """
policy: {path: policy}
data: {path: prompts.jsonl}
judge: {name: scripted}
evaluation: {data: {path: prompts.jsonl}}
"""


def settings_fuzz(share: int = 1) -> Iterator[Outcome]:
    """Set each setting of each variant to each value, every `share`th of them."""
    number = 0
    for variant in VARIANTS:
        for key, default in flat(parse_config(_TEXT, variant, where="fuzz.yaml")).items():
            for value in VALUES:
                number += 1
                if number % share == 0:
                    wrong = _tried(variant, key, default, value)
                    case = f"{key}={value[:40]}" + "".join(f" ({each})" for each in variant)
                    yield Outcome(kind="settings fuzz", case=case, held=not wrong, detail=wrong)


def _tried(variant: list[str], key: str, default: Any, value: str) -> str:
    try:
        config = parse_config(_TEXT, [*variant, f"{key}={value}"], where="fuzz.yaml")
    except SettingError as error:
        return "" if all(len(line) < 600 for line in str(error).splitlines()) else "a line of over 600 characters"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    taken = flat(config).get(key)
    if isinstance(default, int | float) and not isinstance(default, bool) and value in _NEVER:
        return f"taken as {taken!r}"
    if isinstance(default, str) and default and value in ("''", "'   '") and key.endswith(("path", "name", "model")):
        return f"taken as {taken!r}"
    return ""
