"""Completions made to fool a judge, as they are known from the literature and from chat templates: data, never run.

`attacks.jsonl` holds one a line: `kind`, `name`, `text`, and for very long ones how often the text is said (`times`).
The policy is optimised against the judge and will find such things; tests see that each stays data on its way there.
"""

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A hostile completion. The text may hold anything, half characters too."""

    kind: str
    name: str
    text: str


def attacks() -> tuple[Attack, ...]:
    """Read them all."""
    lines = resources.files(__package__).joinpath("attacks.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(Attack(kind=r["kind"], name=r["name"], text=r["text"] * r.get("times", 1)) for r in rows)
