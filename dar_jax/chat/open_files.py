"""How many connections the operating system lets a process have."""

import errno
import os

# For the ledger, checkpoints, data files and libraries.
_RESERVED = 128
# Some systems take no more, and nobody judges so much at once.
_WANTED = 65_536


def room_for_connections() -> int | None:
    """Raise the soft limit of open files to the hard one; return how many connections fit beside what is open, at least
    1. None: no limit is known.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS takes less than it says
            wanted = soft
        soft = wanted
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _open() - _RESERVED)


def out_of_files(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that no more files can be opened."""
    while error is not None:
        inner = getattr(error, "os_error", None) or error
        if isinstance(inner, OSError) and inner.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _open() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
