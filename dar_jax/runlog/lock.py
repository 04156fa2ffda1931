"""A lock of a run folder on a disk for one process: `flock` on its file `.lock`, which names the holder.

The system releases it when the process ends, however it ends.
"""

import errno
import fcntl
import json
import os
import socket
import sys
from pathlib import Path

from dar_jax.errors import SettingError

NAME = ".lock"
# Of file systems that have no locks.
_NONE_HERE = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}


class FolderLock:
    """The lock of a run folder, held until `release`.

    Raises SettingError, with the holder's process id, if another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(folder)
        except BaseException:
            self.release()
            raise

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _take(self, folder: Path) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(f"{folder}: {_holder(self._file)} is running there; wait for it, or stop it") from None
        except OSError as error:
            if error.errno not in _NONE_HERE:
                raise
            told = f"dar-jax: warning: {folder}: this file system has no locks ({error.strerror})"
            print(f"{told}; let only one process at a time run there", file=sys.stderr)
            return
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode(), 0)


def _holder(file: int) -> str:
    try:
        told = json.loads(os.pread(file, 4096, 0))
        return f"process {int(told['process'])} on {told['host']}"
    except (ValueError, TypeError, KeyError):  # it has not written who it is yet
        return "another process"
