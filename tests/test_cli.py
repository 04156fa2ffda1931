import pytest

from dar_jax.cli import _parse, main


def test_settings_may_stand_on_either_side_of_an_option():
    for words in ("train c.yaml steps=1 a=2 --run-dir r", "train c.yaml --run-dir r steps=1 a=2"):
        options = _parse(words.split())
        assert options.settings == ["c.yaml", "steps=1", "a=2"]
        assert str(options.run_dir) == "r"
    assert _parse(["train", "--resume", "r", "steps=2"]).settings == ["steps=2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train", "no config file"),
        ("train steps=3", "no config file"),
        ("train nowhere.yaml", "there is no such config file"),
        ("train --resume r --run-dir s", "a resumed run stays in its folder"),
        ("train --resume r c.yaml", "has its own config.yaml"),
        ("train --resume nowhere", "nothing to resume"),
        ("export nowhere --output o", "nothing to export"),
        ("sample ./no/where --prompt a", "no such folder"),
        ("sample ./no/where --prompt a --template b", "expected KEY=VALUE"),
        ("sample ./no/where --chat -n 2", "what you say is the prompt"),
        ("plan nowhere.yaml --topology v5e:2x4", "there is no such config file"),
        ("judge nowhere.yaml --input i --output o", "there is no such config file"),
        ("ledger stats nowhere", "there is no ledger"),
        ("ledger export nowhere --output o", "there is no ledger"),
        ("ledger merge nowhere --output o", "there is no ledger"),
        ("ledger audit nowhere", "there is no ledger"),
        ("ledger audit ftp://nowhere/x", "no place for a run"),
        ("serve port", "not a setting"),
        ("serve scorer=nobody", "nobody"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "c.yaml", "--run-dri", "x"])
    assert caught.value.code == 2
    assert "--run-dri" in capsys.readouterr().err
