import pytest

from dar_jax.errors import DarError, SettingError
from dar_jax.runlog.new_file import new_file, output_folder


def test_it_appears_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with new_file(path) as scratch:
        scratch.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_it_does_not_appear_after_an_error(tmp_path):
    with pytest.raises(DarError), new_file(tmp_path / "a.txt") as scratch:
        (scratch.write_text("half"), (tmp_path / "no" / "b").read_text())
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("kept")
    with pytest.raises(SettingError, match=r"a\.txt: it is there already"), new_file(path):
        raise AssertionError
    path.unlink()
    with pytest.raises(SettingError, match="it is there already"), new_file(path) as scratch:
        (scratch.write_text("later"), path.write_text("meanwhile"))
    assert path.read_text() == "meanwhile"


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be written"), new_file(tmp_path / "file" / "a"):
        raise AssertionError
    with pytest.raises(DarError, match="nothing was left"), new_file(tmp_path / "a"):
        raise OSError("disk full")


@pytest.mark.parametrize("where", ["file", "file/folder", "/proc/folder"])
def test_a_folder_that_cannot_be_written_is_a_mistake(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"^--output .*cannot be written"):
        output_folder(tmp_path / where)
