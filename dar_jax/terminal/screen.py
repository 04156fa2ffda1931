"""Standard output and error that survive the loss of their reader: `| head -1`, a closed terminal, a full disk."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Screen:
    """A text file that ignores write failures. After the first one it is silent and its descriptor is /dev/null, so
    that neither Rich nor Python's flush at exit ends the process.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write text, with escapes for what the encoding lacks; return the length of `text`."""
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        with self._tolerant():
            self._file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, if there is a reader."""
        with self._tolerant():
            self._file.flush()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            return  # a reader that is late loses a line, not the rest
        except OSError:
            _discard(self._file)
        except ValueError:
            if not self._file.closed:
                raise


def tolerant(file: TextIO | None) -> Any:
    """Return a text file as a Screen; None, Python's value for a closed descriptor, drops everything."""
    if file is None:
        return Screen(open(os.devnull, "w", encoding="utf-8"))
    return file if isinstance(file, Screen) else Screen(file)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[None]:
    """Make print and Rich in the block survive the loss of the readers of standard output and error."""
    out, errors = tolerant(sys.stdout), tolerant(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            yield
        finally:  # what Python itself would flush at exit, too late
            out.flush()
            errors.flush()


def _discard(file: TextIO) -> None:
    """Redirect the descriptor of a file to /dev/null, so that its buffer can be flushed."""
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):  # a file in memory, or a closed one
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
