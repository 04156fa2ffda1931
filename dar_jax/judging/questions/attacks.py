"""Completions made to fool a judge, from the literature and from chat templates: data, never executed.

`attacks.jsonl` has one a line: `kind`, `name`, `text`, and for very long ones how often the text repeats (`times`). A
policy that is optimized against a judge may find them; tests check that each is sent as data.
"""

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A hostile completion. The text may contain anything, even lone surrogates."""

    kind: str
    name: str
    text: str


def attacks() -> tuple[Attack, ...]:
    """Read all attacks."""
    lines = resources.files(__package__).joinpath("attacks.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(Attack(kind=r["kind"], name=r["name"], text=r["text"] * r.get("times", 1)) for r in rows)
