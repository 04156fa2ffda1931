import errno

import pytest

from dar_jax.cli.main import guarded
from dar_jax.errors import DarError
from dar_jax.runlog.disk import disk_fault, run_folder_writes

# As Orbax raises what TensorStore met on a full tmpfs (tensorstore 0.1.80, orbax 0.12.6).
ORBAX = (
    'RESOURCE_EXHAUSTED: Failed writing: "/x/checkpoints/2.orbax-checkpoint-tmp/params/d/f6fc": Failed to write 470562'
    " bytes to file 14: No space left on device [os_error_code='28']"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "No space left on device; free space there"),
        (OSError(errno.EDQUOT, "full"), "quota"),
        (OSError(errno.EROFS, "read-only"), "Read-only file system; mount it for writing"),
        (ValueError(ORBAX), "No space left on device; free space there"),
    ],
)
def test_a_disk_that_refuses_is_one_line_with_the_way_out(error, said):
    line = rf"^runs/x: checkpoint 2 cannot be written: .*{said}.*--resume runs/x$"
    with pytest.raises(DarError, match=line), run_folder_writes("runs/x", "checkpoint 2"):
        raise error


def test_what_caused_an_error_counts():
    error = RuntimeError("a save failed")
    error.__cause__ = ValueError(ORBAX)
    assert "free space" in disk_fault(error)


def test_another_error_stays_what_it_is():
    with pytest.raises(ValueError, match="another"), run_folder_writes("runs/x", "checkpoint 2"):
        raise ValueError("another")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full"), "the disk: cannot be written: No space left on device; free space there"),
        (PermissionError(errno.EACCES, "no", "a/b"), "a/b: cannot be written: Permission denied; give this user"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), None),
        (PermissionError(errno.EACCES, "a port"), None),
        (ValueError("a bug"), None),
    ],
)
def test_any_command_that_meets_a_full_disk_says_so_in_one_line(capsys, error, line):
    def verb():
        raise error

    if line is None:
        with pytest.raises(type(error)):
            guarded(verb)
    else:
        assert guarded(verb) == 1
        assert capsys.readouterr().err.startswith(f"dar-jax: {line}")
