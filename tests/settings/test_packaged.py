"""Configs and assets that come with the package."""

from pathlib import Path

import pytest

from dar_jax.config.config_file import read_config
from dar_jax.errors import SettingError
from dar_jax.settings.packaged import config_names, config_path


@pytest.mark.parametrize("name", config_names())
def test_a_packaged_config_is_found_by_name_and_has_its_assets(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["compare=null"] if name.startswith("compare") else []
    if overrides:
        return
    config = read_config(config_path(name))
    assert (Path(config.policy.path) / "config.json").exists()


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("steps: 1")
    assert config_path("quickstart") == Path("quickstart")
    assert config_path("quickstart.yaml") == Path("quickstart.yaml")


@pytest.mark.parametrize(
    ("text", "hint"),
    [("quickstrat", "did you mean quickstart?"), ("nothing-near", r"come with dar_jax are .*quickstart")],
)
def test_a_misspelt_name_is_answered_with_those_that_exist(text, hint):
    with pytest.raises(SettingError, match=f"{text}: there is no such file and no such config; .*{hint}"):
        config_path(text)


def test_assets_of_a_users_own_config_are_the_users(tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: {path: assets/minitldr-sft}")
    from dar_jax.settings.yaml_text import read_text

    assert read_text(tmp_path / "mine.yaml") == "policy: {path: assets/minitldr-sft}"
