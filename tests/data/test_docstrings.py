"""Docstrings of the standard library as prompts."""

import json
from pathlib import Path

import pytest

from dar_jax.data import Docstrings, Source, admit
from dar_jax.data.docstrings import CUE, library, split_docstring, write_tokenizer
from dar_jax.errors import SettingError
from dar_jax.tokens import Tokenizer

ASSETS = Path(__file__).parents[2] / "assets" / "docstrings"
BODY = "The body says more than the first line does, at a length that makes it worth a summary.\n"
MODULE = f'''"""Read the records of a file.

{BODY}"""

raise SystemExit("imported")


class Reader:
    """Read one record after the other.

    {BODY.replace("body", "class")}
    """

    def close(self):
        """Too short a body to use.

        No.
        """
'''


@pytest.fixture(scope="module")
def train() -> Source:
    return Docstrings().load()


def test_modules_are_parsed_and_never_imported(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(MODULE)
    (tmp_path / "a.py").write_text("broken(")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "c.py").write_text(MODULE.replace("body", "test"))
    found = library(str(tmp_path))
    assert [(doc.module, doc.name, doc.summary) for doc in found] == [
        ("b", "", "Read the records of a file."),
        ("b", "Reader", "Read one record after the other."),
    ]
    assert found[0].body == BODY.strip()


def test_each_body_comes_once(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(MODULE)
    assert [doc.module for doc in library(str(tmp_path))] == ["a", "a"]


@pytest.mark.parametrize(
    "text",
    [
        "Only one line.",
        f"Two lines of summary\nwithout a blank.\n\n{BODY}",
        f"Short one.\n\n{BODY}",
        f"name = value | other ;\n\n{BODY}",
        f"Show an example.\n\n{BODY}\n>>> 1 + 1\n2",
        "A table follows here.\n\n" + "| 1 | 2 | 3 |\n" * 10,
        f"The body is far too long for us.\n\n{BODY * 20}",
    ],
)
def test_docstrings_of_no_use_are_left_out(text: str) -> None:
    assert split_docstring(f"Say what it does.\n\n{BODY}") == ("Say what it does.", BODY.strip())
    assert split_docstring(text) is None


def test_the_library_gives_prompts_and_demonstrations(train: Source) -> None:
    assert len(train) > 800
    for prompt in train:
        assert prompt.text.endswith(CUE)
        assert train.completion(prompt.id).startswith(" ")
        assert train.completion(prompt.id).strip() not in prompt.text.splitlines()
    assert {"module", "object"} <= set(train.columns)


def test_train_and_test_share_no_body(train: Source) -> None:
    test = Docstrings(split="test").load()
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in test}
    assert 0.05 < len(test) / (len(test) + len(train)) < 0.15


def test_a_limit_takes_the_first(train: Source) -> None:
    few = Docstrings(limit=5).load()
    assert list(few) == [train[i] for i in range(5)]


def test_python_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(SettingError, match="came without its sources"):
        Docstrings().load()


def test_the_shipped_tokenizer_reads_any_text() -> None:
    tokenizer = Tokenizer.load(str(ASSETS))
    for text in ("Return the café's 名前.\n\n\tIndented", "\x00\x7f", " a  b"):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text
    config = json.loads((ASSETS / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.vocab_size
    assert {config["eos_token_id"]} == tokenizer.eos_ids


def test_most_prompts_are_admitted_at_the_length_the_model_is_made_for(train: Source) -> None:
    admitted = admit(train, Tokenizer.load(str(ASSETS)), 128, on_bad="skip")
    assert len(admitted) > 0.85 * len(train)


def test_the_tokenizer_can_be_trained_again(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, size=400)
    tokenizer = Tokenizer.load(str(tmp_path))
    assert tokenizer.vocab_size == 400
    assert len(tokenizer.encode_text(" return the")) < 8
