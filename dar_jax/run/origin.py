"""What the numbers of a run follow from: settings, model, prompts; kept with its checkpoints, compared by a resume."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dar_jax.checkpoints.checksums import digest
from dar_jax.config.run_config import fixed, is_free
from dar_jax.errors import SettingError
from dar_jax.run.session import Prompts, Session

# How a model is computed, not what it is.
_LAYOUT = {"attention", "lora"}


def origin(session: Session) -> dict[str, Any]:
    """Return what decides the numbers of a run, as plain values.

    Data count by their content, not by their place: by the token ids of the admitted prompts, the recorded
    completions, and the tokens that end a completion.
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
    """Raise SettingError where a run would go on from something else than `before`, the origin of its checkpoint."""
    now, config = origin(session), session.config
    settings = {key: value for key, value in before["settings"].items() if not is_free(key)}
    if changed := list(_differences(settings, now["settings"])):
        raise SettingError(
            f"{run}/config.yaml: {'; '.join(changed)}: its checkpoints were made with the former; put that back"
        )
    if changed := list(_differences(before["model"], now["model"])):
        raise SettingError(
            f"policy.path: the config.json of {config.policy.path} is not what the run started from"
            f" ({'; '.join(changed)}); put it back"
        )
    _check_prompts("data.path", session.prompts, before["prompts"], now["prompts"], "put it back")
    if session.held_out and before["held_out"]:
        way_out = "put it back, or go on with evaluation=null"
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
    """List what of `before` is different now; what is new since is of a younger version of this package."""
    for name, value in before.items():
        found = now.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            yield from _differences(value, found, f"{path}{name}.")
        elif found != value or name not in now:
            yield f"{path}{name}: {value!r} -> {found!r}"
