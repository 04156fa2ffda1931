"""The rows of a ledger under a URL, where SQLite does not work: objects of JSON lines, each written once.

    ledger/0/00000017.jsonl     answers that the first process asked for; other processes count on

A process writes under its own number and reads everybody's. When many small objects have gathered it writes their rows
as one and deletes them. Rows may be there twice for a moment, or after a crash; the ledger takes the first.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dar_jax.errors import SettingError
from dar_jax.runlog.objects import Objects

_GATHER = 64


class StoredAnswer(NamedTuple):
    """An answer as the ledger keeps it: what describes its judge, then the columns of `answers`."""

    description: str
    key: str
    judge: str
    prompt: str
    completion: str
    request: str
    answer: str
    raw: str
    served_model: str
    attempts: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    answered_at: float


class Segments:
    """Where one process of a run keeps the answers it pays for: `gs://BUCKET/PATH/ledger/0`."""

    def __init__(self, place: str) -> None:
        folder, _, self._own = place.rpartition("/")
        self._objects = Objects(folder)
        self._small: dict[str, bytes] = {}
        self._last = max((_number(name) for name in self._objects.under(self._own)), default=0)

    def read(self) -> Iterator[list[StoredAnswer]]:
        """Read the rows of all processes, one's own first: of two answers to one question it has used its own.

        Raises SettingError where an object is damaged.
        """
        seen: set[str] = set()
        # What was gathered between the list and the read is gone, and in a new object.
        while fresh := [name for name in self._objects.names() if name not in seen]:
            fresh.sort(key=lambda name: (not name.startswith(f"{self._own}/"), name))
            seen.update(fresh)
            for name, content in self._objects.read_each(fresh):
                yield self._rows(name, content)

    def write(self, rows: Sequence[StoredAnswer]) -> None:
        """Return when the rows are durable. Raises DarError where they are not."""
        content = "".join(_lines(rows)).encode()
        self._small[self._put(content)] = content
        if len(self._small) >= _GATHER:
            self._put(b"".join(self._small.values()))
            self._objects.delete(self._small)
            self._small.clear()

    def _put(self, content: bytes) -> str:
        self._last += 1
        name = f"{self._own}/{self._last:08}.jsonl"
        self._objects.create(name, content).finish()
        return name

    def _rows(self, name: str, content: bytes) -> list[StoredAnswer]:
        try:
            return [StoredAnswer(**json.loads(line)) for line in content.splitlines()]
        except (ValueError, TypeError) as fault:
            raise SettingError(
                f"the ledger's {self._objects.url}/{name} is damaged: {fault}; delete it, and pay for its answers again"
            ) from None


def _lines(rows: Sequence[StoredAnswer]) -> Iterator[str]:
    told: set[str] = set()
    for row in rows:
        # A description holds the whole rubric: the first row of an object that needs it has it.
        described = row._replace(description="") if row.judge in told else row
        told.add(row.judge)
        yield json.dumps(described._asdict()) + "\n"


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].removesuffix(".jsonl"))
