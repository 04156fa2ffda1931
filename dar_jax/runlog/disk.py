"""Report a disk that cannot be written in one line with the way out."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dar_jax.errors import DarError

_WAYS_OUT = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space within the quota, or raise it",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
}
# As TensorStore writes it, which Orbax raises in a ValueError.
_CODE = re.compile(r"os_error_code='(\d+)'")


def disk_fault(error: BaseException | None) -> str | None:
    """Return why a disk cannot be written, with the way out; None if neither the error nor its cause is such."""
    if error is None:
        return None
    if (code := _code(error)) is None:
        return disk_fault(error.__cause__ or error.__context__)
    return f"{os.strerror(code)}; {_WAYS_OUT.get(code, 'see to the disk')}"


def disk_line(error: OSError | ValueError) -> str | None:
    """Return one line for a command's file that cannot be written; None for any other error."""
    if (reason := disk_fault(error)) is None:
        return None
    file = getattr(error, "filename", None)
    known = reason.endswith(tuple(_WAYS_OUT.values())) and (file or not isinstance(error, PermissionError))
    return f"{file or 'the disk'}: cannot be written: {reason}" if known else None


@contextlib.contextmanager
def run_folder_writes(path: Path | str, what: str) -> Iterator[None]:
    """Raise DarError with how to resume if `what` of the run folder `path` cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:
        if (reason := disk_fault(error)) is None:
            raise
        raise DarError(
            f"{path}: {what} cannot be written: {reason}, then resume with: dar-jax train --resume {path}"
        ) from None


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _CODE.search(str(error)) if isinstance(error, ValueError) else None
    return int(found[1]) if found else None
