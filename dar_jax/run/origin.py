"""The settings, model and prompts that determine a run's numbers; saved with its checkpoints, compared on resume."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dar_jax.checkpoints.checksums import digest
from dar_jax.config.run_config import fixed, is_free
from dar_jax.errors import SettingError
from dar_jax.run.session import Prompts, Session

# These decide how a model is computed, not what it is.
_LAYOUT = {"attention", "lora"}


def origin(session: Session) -> dict[str, Any]:
    """Return what determines a run's numbers, as plain values.

    Data count by content, not by path: the token ids of the admitted prompts, the recorded completions, and the token
    ids that end a completion.
    """
    model = json.loads(json.dumps(dataclasses.asdict(session.decoder), default=str))
    recorded = "" if session.config.online else digest([session.texts(each) for each in session.prompts])
    return {
        "settings": fixed(session.config),
        "model": {name: value for name, value in model.items() if name not in _LAYOUT},
        "prompts": _described(session, session.prompts, recorded),
        "held_out": _described(session, session.held_out, "") if session.held_out else None,
    }


def check_origin(before: Mapping[str, Any], session: Session, run: str) -> None:
    """Raise SettingError if the session differs from `before`, the origin saved with the checkpoint."""
    now, config = origin(session), session.config
    settings = {key: value for key, value in before["settings"].items() if not is_free(key)}
    if changed := list(_differences(settings, now["settings"])):
        raise SettingError(
            f"{run}/config.yaml: {'; '.join(changed)}: its checkpoints were made with the former value; put it back"
        )
    if changed := list(_differences(before["model"], now["model"])):
        raise SettingError(
            f"policy.path: the config.json of {config.policy.path} is not what the run started from"
            f" ({'; '.join(changed)}); put it back"
        )
    _check_prompts("data.path", session.prompts, before["prompts"], now["prompts"], "put it back")
    if session.held_out and before["held_out"]:
        way_out = "put it back, or resume with evaluation=null"
        _check_prompts("evaluation.data", session.held_out, before["held_out"], now["held_out"], way_out)


def _described(session: Session, prompts: Prompts, recorded: str) -> dict[str, Any]:
    return {
        "count": len(prompts.ids),
        "tokens": prompts.digest,
        "recorded": recorded,
        "ends": sorted(session.tokenizer.eos_ids),
    }


def _check_prompts(
    setting: str, prompts: Prompts, before: Mapping[str, Any], now: Mapping[str, Any], way_out: str
) -> None:
    if before["ends"] != now["ends"]:
        raise SettingError(
            f"tokenizer: a completion ends with {now['ends']}, but the run started with {before['ends']}; put the"
            " tokenizer, chat template and generation_config.json back"
        )
    if before != now:
        how = f"{before['count']} prompts, then {now['count']}"
        if before["count"] == now["count"]:
            tokens = before["tokens"] != now["tokens"]
            how = "other tokens: its texts, chat template or tokenizer" if tokens else "other completions"
        raise SettingError(f"{setting}: {prompts.source.where} is not what the run started from ({how}); {way_out}")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the values of `before` that differ in `now`; keys that are only in `now` come from a newer version."""
    for name, value in before.items():
        found = now.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            yield from _differences(value, found, f"{path}{name}.")
        elif found != value or name not in now:
            yield f"{path}{name}: {value!r} -> {found!r}"
