"""Prompts from a file, a folder or the hub, read by the `datasets` library in TRL's formats."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from dar_jax.data.jsonl import IN_MEMORY, JsonRows
from dar_jax.data.source import ARGUMENTS, SIDES, TOOLS, Source, listed
from dar_jax.data.tables import TableRows
from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, FreeOnResume, Name, PathOrId

_READERS = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".parquet": "parquet"}
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Files:
    """Read prompts from `path`: a JSONL or parquet file, a dataset folder or a hub id.

    `split` may be a slice in the form of `datasets`, such as `train[:1000]`; `subset` is the hub's
    name for a configuration. A prompt is a string or a list of messages; a completion (a
    demonstration, for SFT) likewise. `tools` and `chat_template_kwargs` go to the chat template; no other column
    is read.
    """

    name: Literal["files"] = "files"
    path: FreeOnResume[PathOrId]
    split: Name = "train"
    subset: Name | None = None
    revision: Name | None = None
    prompt_column: Name = "prompt"
    completion_column: Name = "completion"

    def load(self) -> Source:
        """Open the set. Raises SettingError for a missing or unreadable file, split or column."""
        rows = self.rows()
        if len(rows) == 0:
            raise SettingError(f"data.path: {self.path}, split {self.split!r}, has no rows")
        if self.prompt_column not in rows.columns and rows[0].get(self.prompt_column) is None:
            raise SettingError(
                f"data.prompt_column: {self.path} has no column {self.prompt_column!r} (it has {listed(rows.columns)})"
            )
        return Source(
            rows=rows,
            where=self.path,
            split=self.split,
            columns=rows.columns,
            prompt_column=self.prompt_column,
            completion_column=self.completion_column,
        )

    def rows(self) -> JsonRows | TableRows:
        """Open the set, whatever its columns; each is read when a row is asked for it. Raises SettingError."""
        path = Path(self.path).expanduser()
        if path.is_file() and _READERS.get(path.suffix.lower()) == "json":
            return self._chosen(JsonRows(path, self.path))
        with _quiet():
            return TableRows(self._table(path))

    def _chosen(self, rows: JsonRows) -> JsonRows:
        """Keep the rows of the split; a file has one, `train`."""
        if self.split != "train" and len(rows):
            from datasets import ReadInstruction

            try:
                parts = ReadInstruction.from_spec(self.split).to_absolute({"train": len(rows)})
            except Exception as fault:  # whatever the library has against the user's words
                raise self._unusable(fault) from fault
            rows.choose([index for part in parts for index in range(len(rows))[part.from_ : part.to]])
            if not len(rows):
                raise SettingError(f"data.split: {self.split!r} corresponds to no data of {self.path}")
        return rows

    def _table(self, path: Path) -> Any:
        if path.is_file():
            return self._file(path)
        if any(path.glob("*.arrow")) or (path / "dataset_dict.json").is_file():
            return self._saved(path)
        could_be_hub = _HUB_ID.fullmatch(self.path) and path.suffix not in _READERS
        if not path.is_dir() and not could_be_hub:
            raise SettingError(f"data.path: there is no file or folder {self.path}")
        if not path.is_dir() or glob.escape(str(path)) == str(path):
            return self._dataset(str(path) if path.is_dir() else self.path, name=self.subset)
        # The library takes a folder's name for a pattern; a folder of links to its files has a name without any.
        with TemporaryDirectory(prefix="dar-jax-data-", ignore_cleanup_errors=True) as place:
            links = Path(place) / "data"
            shutil.copytree(path, links, copy_function=lambda file, link: os.symlink(os.path.abspath(file), link))
            return self._dataset(str(links), name=self.subset, keep_in_memory=True, cache_dir=f"{place}/cache")

    def _file(self, path: Path) -> Any:
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise SettingError(
                f"data.path: cannot tell the format of {self.path} from its name; expected one of {', '.join(_READERS)}"
            )
        given = {"data_files": glob.escape(str(path)), "columns": self._columns(path)}
        if path.stat().st_size > IN_MEMORY:
            return self._dataset(reader, **given)
        # A small file is held in memory; the library's cache would leave a copy in the home folder
        # for nothing.
        with TemporaryDirectory(prefix="dar-jax-data-", ignore_cleanup_errors=True) as cache:
            return self._dataset(reader, **given, cache_dir=cache, keep_in_memory=True)

    def _columns(self, path: Path) -> list[str] | None:
        """Return the columns of a parquet file that a run may use; None, all of them, where it has no prompts."""
        from pyarrow.parquet import read_schema

        try:
            there = read_schema(path).names
        except Exception as fault:  # whatever a reader raises is about the user's file
            raise self._unusable(fault) from fault
        used = {self.prompt_column, self.completion_column, TOOLS, ARGUMENTS, *SIDES}
        return [name for name in there if name in used] or None

    def _saved(self, path: Path) -> Any:
        from datasets import DatasetDict, load_from_disk

        table = load_from_disk(str(path))
        if not isinstance(table, DatasetDict):
            return table
        if self.split not in table:
            raise self._no_split(list(table))
        return table[self.split]

    def _dataset(self, path: str, **given: Any) -> Any:
        from datasets import load_dataset

        if given.get("data_files") is None:
            given["revision"] = self.revision
        try:
            return load_dataset(path, split=self.split, **given)
        except StopIteration:
            raise SettingError(f"data.path: {self.path} has no rows") from None
        except Exception as fault:  # whatever a reader or the hub raises is about the user's file
            raise self._unusable(fault) from fault

    def _unusable(self, fault: BaseException) -> SettingError:
        if isinstance(fault, ValueError) and (found := re.search(r"Unknown split.*\[(.*)\]", str(fault))):
            return self._no_split([name.strip(" '") for name in found[1].split(",")])
        while fault.__cause__ is not None:
            fault = fault.__cause__
        reason = " ".join(str(fault).split()) or type(fault).__name__
        kind = "" if Path(self.path).expanduser().exists() else " as a dataset of the hub (no such file here)"
        return SettingError(f"data.path: cannot read {self.path}{kind}: {reason[:300]}")

    def _no_split(self, splits: list[str]) -> SettingError:
        return SettingError(f"data.split: {self.path} has no split {self.split!r} (it has {listed(splits)})")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library: what its log lines would say comes as an error or not at all."""
    import datasets
    from datasets.utils import logging

    level, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
