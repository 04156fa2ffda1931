"""Rows of a file of JSON, read on demand: one object a line, or one array of objects.

A row is parsed when it is asked for, so a value in a column that nobody uses is never looked at, and a row that is
broken is that row's fault alone. A large file stays on disk: 24 bytes of memory a row.
"""

import codecs
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dar_jax.errors import SettingError

LONGEST_LINE = 1 << 26
IN_MEMORY = 1 << 28
_CHUNK = 1 << 20
# So many rows are looked at for the names of columns.
_LOOKED_AT = 1000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_KINDS = {str: "a string", list: "an array", int: "a number", float: "a number", bool: "a truth value"}


class JsonRows:
    """The rows of a file, `where` in messages.

    Raises SettingError where the file cannot be read, and for a row that is no object in UTF-8 when it is asked for.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        try:
            with path.open("rb") as file:
                self._state = _state(file)
                self._content = file.read() if self._state[1] <= IN_MEMORY else None
                file.seek(0)
                self._starts, self._lengths, self._numbers = array("q"), array("q"), array("q")
                for number, start, length in _spans(file):
                    self._starts.append(start)
                    self._lengths.append(length)
                    self._numbers.append(number)
        except OSError as fault:
            raise SettingError(f"data.path: cannot read {where}: {fault.strerror}") from None
        self._array = self._whole()
        self._chosen: Sequence[int] = range(len(self._starts) if self._array is None else len(self._array))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        place = self._chosen[index]
        try:
            if self._array is not None:
                return as_object(self._array[place])
            return parse_line(self._line(place))
        except ValueError as fault:
            raise SettingError(f"data.path: {self._where}: row {index}{self._beside(place, index)} {fault}") from None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the first rows, in the order that they come."""
        found: dict[str, None] = {}
        for index in range(min(len(self), _LOOKED_AT)):
            try:
                found |= dict.fromkeys(self[index])
            except SettingError:
                continue  # raised when the row itself is asked for
        return tuple(found)

    def choose(self, chosen: Sequence[int]) -> None:
        """Keep these rows alone."""
        self._chosen = chosen

    def _line(self, place: int) -> bytes:
        start, length = self._starts[place], self._lengths[place]
        length = min(length, LONGEST_LINE + 1)
        if self._content is not None:
            return self._content[start : start + length]
        with self._path.open("rb") as file:
            if _state(file) != self._state:
                raise SettingError(f"data.path: {self._where} was changed while it is in use; start the run again")
            return os.pread(file.fileno(), length, start)

    def _beside(self, place: int, index: int) -> str:
        if self._array is not None or self._numbers[place] == index + 1:
            return ""
        return f" (line {self._numbers[place]})"

    def _whole(self) -> list[Any] | None:
        """Return the rows of a file that is one array or one object of columns, None where each line is a row."""
        if self._content is None or not self._starts:
            return None
        content = self._content.removeprefix(codecs.BOM_UTF8).lstrip()
        if content[:1] not in (b"[", b"{") or (content[:1] == b"{" and len(self._starts) > 1 and self._has_lines()):
            return None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if isinstance(found, list):
            return found
        columns = [value for value in found.values() if isinstance(value, list)]
        if len(columns) == len(found) > 0 and len({len(column) for column in columns}) == 1 and len(self._starts) > 1:
            return [dict(zip(found, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return [found]

    def _has_lines(self) -> bool:
        """Whether the first line is a row by itself."""
        try:
            parse_line(self._line(0))
        except ValueError:
            return False
        return True


def parse_line(line: bytes) -> dict[str, Any]:
    """Read a row. Raises ValueError that says what the line is instead."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"is a line of more than {LONGEST_LINE:,} bytes; expected one object a line")
    try:
        found = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        kind = "utf-16" if line.startswith(_UTF16) else "latin1"
        raise ValueError(f"is not UTF-8; convert it (iconv -f {kind} -t utf8)") from None
    except RecursionError:
        raise ValueError("is nested too deep; expected one object a line") from None
    except ValueError as fault:
        raise ValueError(f"is not JSON ({fault}); expected one object a line") from None
    return as_object(found)


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Read the lines that are not blank, with their numbers; one that is too long comes cut off."""
    for number, start, length in _spans(file):
        here = file.tell()
        file.seek(start)
        yield number, file.read(min(length, LONGEST_LINE + 1))
        file.seek(here)


def as_object(found: Any) -> dict[str, Any]:
    """Return what is an object. Raises ValueError for anything else."""
    if not isinstance(found, dict):
        raise ValueError(f'is {_KINDS.get(type(found), "null")}; expected an object such as {{"prompt": ...}}')
    return found


def _spans(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Find the lines that are not blank: number, first byte, length. A line feed alone ends one."""
    start = position = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
    file.seek(start)
    number, blank = 1, True
    while chunk := file.read(_CHUNK):
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            if not ((blank and chunk[begin:end].isspace()) or (blank and begin == end)):
                yield number, start, position + end - start
            number, start, begin, blank = number + 1, position + end + 1, end + 1, True
        rest = chunk[begin:]
        blank = blank and (not rest or rest.isspace())
        position += len(chunk)
    if not blank:
        yield number, start, position - start


def _state(file: BinaryIO) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns
