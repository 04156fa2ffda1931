"""Real text that is on every machine: the docstrings of Python's own standard library.

The body of a docstring is the prompt, its first line the demonstration. Modules are parsed, never imported. Which
docstrings there are depends on the Python version; their order does not depend on the machine.
"""

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic.dataclasses import dataclass

from dar_jax.data.source import Source
from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, Count

CUE = "\n\nTL;DR:"
# Not part of the library proper: tests, and what is installed beside it.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "ensurepip", "__pycache__"})
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_BODY_CHARS = (60, 500)
_SUMMARY_CHARS = (15, 90)
_TEST_SHARE = 10  # one in so many is held out


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Docstrings:
    """Docstrings of the standard library that runs this: bodies as prompts, first lines as demonstrations.

    A tenth, chosen by a hash of the body, is the `test` split. `limit` takes the first so many.
    """

    name: Literal["docstrings"] = "docstrings"
    split: Literal["train", "test"] = "train"
    limit: Count | None = None

    def load(self) -> Source:
        """Read the library. Raises SettingError where Python came without its sources."""
        where = "Python's standard library"
        found = [doc for doc in library(sysconfig.get_path("stdlib")) if doc.held_out == (self.split == "test")]
        rows = [
            {"prompt": doc.body + CUE, "completion": f" {doc.summary}", "module": doc.module, "object": doc.name}
            for doc in found[: self.limit]
        ]
        if not rows:
            raise SettingError(f"data: {where}: no docstrings found; this Python came without its sources")
        columns = ("prompt", "completion", "module", "object")
        return Source(rows=rows, where=where, split=self.split, columns=columns)


class Docstring(NamedTuple):
    """A docstring in two parts, and where it stands."""

    module: str
    name: str
    summary: str
    body: str

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the test split; equal bodies always go together."""
        return hashlib.sha256(self.body.encode()).digest()[0] * _TEST_SHARE < 256


@cache
def library(folder: str) -> tuple[Docstring, ...]:
    """Return the usable docstrings of a folder of modules, by path and then by place; each body once."""
    root = Path(folder)
    files = sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix())
    kept: dict[str, Docstring] = {}
    for file in files:
        parts = file.relative_to(root).with_suffix("").parts
        if not _LEFT_OUT.intersection(parts):
            for doc in _docstrings(file, ".".join(parts)):
                kept.setdefault(doc.body, doc)
    return tuple(kept.values())


def split_docstring(text: str) -> tuple[str, str] | None:
    """Divide a cleaned docstring into its first line and its body; None where they are not of use.

    Wanted: a first line that is a short sentence by itself, and a body of prose, not of examples or tables.
    """
    summary, _, rest = text.strip().partition("\n")
    if rest.split("\n", 1)[0].strip() or not re.fullmatch(r"[A-Z]\w*( [^=]+){2,}", summary):
        return None
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in rest.split("\n"))).strip()
    fits = _SUMMARY_CHARS[0] <= len(summary) <= _SUMMARY_CHARS[1] and _BODY_CHARS[0] <= len(body) <= _BODY_CHARS[1]
    prose = sum(letter.isalpha() or letter in " \n" for letter in body) > 0.85 * len(body)
    return (summary, body) if fits and prose and ">>>" not in body and body.isascii() else None


def _docstrings(file: Path, module: str) -> Iterator[Docstring]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # lib2to3 keeps files that are wrong on purpose
    for node in _definitions(tree):
        text = ast.get_docstring(node)
        if text and (parts := split_docstring(text)):
            name = "" if isinstance(node, ast.Module) else node.name
            yield Docstring(module, name, *parts)


def _definitions(node: ast.AST) -> Iterator[Definition]:
    """List a node's definitions in the order of the text; expressions are not looked into."""
    if isinstance(node, Definition):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _definitions(child)


def write_tokenizer(folder: str | Path, size: int = 2048) -> None:
    """Train a byte-level BPE tokenizer of `size` tokens on the train split and write it in Hugging Face form."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    source = Docstrings().load()
    texts = [prompt.text + source.completion(prompt.id) for prompt in source]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<eos>", "<pad>"]
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<eos>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    ).save_pretrained(str(folder))
