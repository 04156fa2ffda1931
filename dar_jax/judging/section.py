"""Read the judge of a config file without the rest of it, and without jax."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dar_jax.errors import SettingError
from dar_jax.judging import JUDGES, GeminiJudge, OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.settings.fields import one_of
from dar_jax.settings.refusals import setting_error
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
    of = {"judge": Settings}
    settings = merged(text, overrides, where=where, of=of)
    if (section := settings.get("judge")) is None:
        return None
    try:
        return _JUDGE.validate_python(section)
    except ValidationError as fault:
        raise setting_error(fault.errors(), settings, of, where, section=("judge",)) from None


def members(judge: Settings) -> tuple[OpenAIJudge | GeminiJudge | ScriptedJudge, ...]:
    """Return the judges of one wire each: a panel's, or the judge itself."""
    return judge.judges if isinstance(judge, PanelJudge) else (judge,)
