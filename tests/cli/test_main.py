import pytest

from dar_jax.cli.main import _parse, main


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
        (
            "train steps=3 my.yaml seed=1",
            "write it first: dar-jax train my.yaml steps=3",
        ),
        ("plan steps=3 my.yaml --topology v5e:2x4", "write it first: dar-jax plan my.yaml steps=3"),
        ("sweep steps=3 my.yaml --grid a=1,2", "write it first: dar-jax sweep my.yaml steps=3"),
        ("judge judge.levels=3 my.yaml --input i --output o", "write it first: dar-jax judge my.yaml"),
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
        ("serve port", "expected key=value"),
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train c.yaml --run-dri x", "--run-dri x; did you mean --run-dir?"),
        ("train c.yaml --steps 5", "settings have no dashes, write steps=5"),
        ("train --steps 5 c.yaml", "write steps=5"),
        ("train c.yaml --steps=5", "write steps=5"),
        ("train c.yaml --learning-rate 1e-5", "write learning.optimizer.learning_rate=1e-5"),
        ("train c.yaml --output_dir out", "write the option --run-dir DIR"),
        ("train c.yaml --judge.model gpt", "write judge.model=gpt"),
        ("plan c.yaml --topology v5e:2x4 --group_size 8", "write group_size=8"),
        ("compare c.yaml --seed 3", "did you mean --seeds?"),
        ("export r --output o --stepp 3", "--stepp 3"),
    ],
)
def test_an_unknown_option_is_refused_with_what_to_write(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
