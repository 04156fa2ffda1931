"""Read the judge of a config file without the rest of it, and without jax."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dar_jax.errors import SettingError
from dar_jax.judging import JUDGES, SINGLE, GeminiJudge, OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.settings.fields import one_of
from dar_jax.settings.refusals import refusal
from dar_jax.settings.yaml_settings import merged
from dar_jax.settings.yaml_text import read_text

Settings = OpenAIJudge | GeminiJudge | ScriptedJudge | PanelJudge
_JUDGE: TypeAdapter[Settings] = TypeAdapter(one_of(JUDGES))


def read_judge(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read the `judge:` section of a config file, with overrides `judge.key=value` on top. Raises SettingError."""
    for override in overrides:
        if not override.startswith("judge."):
            raise SettingError(f"{override!r}: only the judge is used here; write judge.key=value, or leave it out")
    found = parse_judge(read_text(path), overrides, where=str(path))
    if found is None:
        raise SettingError(f"{path}: it has no judge; state one, such as judge: {{name: openai, model: ...}}")
    return found


def parse_judge(text: str, overrides: Sequence[str] = (), *, where: str) -> Settings | None:
    """Read the judge from YAML text; None if there is none. Raises SettingError, one line a mistake."""
    section = merged(text, overrides, where=where, of={"judge": Settings}).get("judge")
    if section is None:
        return None
    try:
        return _JUDGE.validate_python(section)
    except ValidationError as fault:
        lines = dict.fromkeys(_explain(error) for error in fault.errors())
        raise SettingError("\n".join(f"{where}: {line}" for line in lines)) from None


def members(judge: Settings) -> tuple[OpenAIJudge | GeminiJudge | ScriptedJudge, ...]:
    """Return the judges of one wire each: a panel's, or the judge itself."""
    return judge.judges if isinstance(judge, PanelJudge) else (judge,)


# pydantic puts the chosen class between the keys of a location.
_TAGS = frozenset({*JUDGES, "<name>", "<own>"})


def _explain(error: Any) -> str:
    kind = error["type"]
    # pydantic puts the chosen name before the keys.
    key = ".".join(["judge", *(str(part) for part in error["loc"] if part not in _TAGS)])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.name: expected one of {', '.join(JUDGES if key == 'judge' else SINGLE)}"
    if kind == "unexpected_keyword_argument":
        return f"{key}: there is no such setting of this judge; see docs/judging.md"
    return refusal(key, error)
