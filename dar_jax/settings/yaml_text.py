"""YAML text to plain values and back, in bounded time: deep nesting, alias bombs, duplicate keys and tags are refused.

An unquoted scalar stays `Unquoted` text until the type of its setting is known: `0123456` is a valid git revision but
not a valid number.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from dar_jax.errors import SettingError
from dar_jax.settings.packaged import with_asset_paths

# libyaml's parser, which is in PyYAML's wheels, reads `{a: Is it short?}`; PyYAML's own refuses it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1_000_000, 20_000, 40
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9](?:_?[0-9]){0,300})")
# Unlike YAML 1.1, 1e-6 is a number, and 1:30, 0x1f and 010 are not.
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class Unquoted(str):
    """An unquoted scalar, as written."""

    @property
    def is_null(self) -> bool:
        """Whether this is one of YAML's spellings of null."""
        return self in _NULLS

    def value(self) -> Any:
        """Return the value in YAML: null, a boolean or a number, else the text."""
        text = str(self)
        if self.is_null:
            return None
        if text in (text.lower(), text.upper(), text.capitalize()) and text.lower() in _BOOLS:
            return _BOOLS[text.lower()]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan")) if _is_float(text) else text


def read_text(path: Path, what: str = "config file") -> str:
    """Read a settings file. Raises SettingError if it is missing, a folder, too large or not UTF-8 text."""
    try:
        if path.is_dir():
            raise SettingError(f"{path}: got a folder, expected a YAML file")
        if not path.exists():
            raise SettingError(f"{path}: there is no such {what}{_similar_file(path)}")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as fault:
        raise SettingError(f"{path}: cannot be read ({getattr(fault, 'strerror', None) or fault})") from None
    return with_asset_paths(decode(content, str(path)), path)


def decode(content: bytes, where: str) -> str:
    """Decode the content of the settings file `where`. Raises SettingError."""
    if len(content) > _MOST_BYTES:
        raise SettingError(f"{where}: larger than {_MOST_BYTES:,} bytes, expected a YAML settings file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise SettingError(f"{where}: not UTF-8 text (byte {fault.start}), expected a YAML file") from None


def load(text: str) -> Any:
    """Return the values in YAML text: dicts with text keys, lists, quoted text as str, other scalars as Unquoted.

    Raises ValueError with one line.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"longer than {_MOST_BYTES:,} characters")
    try:
        _check_events(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _measure(node, {})[0] > _MOST_VALUES:
                raise ValueError(f"more than {_MOST_VALUES:,} values, aliases expanded")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as fault:
        raise ValueError(_one_line(fault)) from None


def load_whole(text: str) -> Any:
    """Return the value in YAML text. Raises ValueError if it has a comment, anchor, tag, directive or folded line."""
    end = 0
    try:
        for token in yaml.scan(text, Loader=_Safe):
            start = token.start_mark.index
            if isinstance(token, yaml.AnchorToken | yaml.TagToken | yaml.DirectiveToken | yaml.DocumentStartToken):
                raise ValueError(f"{text[start:].split()[0]!r} cannot be part of a value")
            if skipped := text[end:start].strip():
                raise ValueError(f"{skipped!r} is a comment")
            end = max(end, token.end_mark.index)
            if isinstance(token, yaml.ScalarToken) and token.plain and token.value != text[start:end]:
                raise ValueError("a line break is folded to a space")
    except yaml.YAMLError as fault:
        raise ValueError(_one_line(fault)) from None
    return load(text)


def dump(value: Any) -> str:
    """Return plain values as YAML text that `load` reads back."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Loader(_Safe):
    """Build dicts, lists and text; of YAML's special keys only the merge key `<<` is read."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("<<"))]}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {key.start_mark.line + 1}: a key is a list or mapping, expected a name")
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: duplicate key {key.value[:100]!r}")
            seen.add(key.value)
        self.flatten_mapping(node)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}

    def text(self, node: Any) -> str:
        return str(node.value) if node.style else Unquoted(node.value)


class _Dumper(yaml.SafeDumper):
    """Quote text that `Unquoted.value` or YAML 1.1 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)
_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
_Loader.add_constructor("tag:yaml.org,2002:seq", lambda loader, node: loader.construct_sequence(node, deep=True))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+0123456789."))
_Dumper.add_representer(Unquoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text)))


def _one_line(fault: yaml.YAMLError) -> str:
    """Return the position and the problem, without the quoted source, which may be long."""
    if isinstance(fault, yaml.MarkedYAMLError) and (mark := fault.problem_mark or fault.context_mark):
        problem = " ".join(filter(None, [fault.context, fault.problem]))
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return " ".join(str(fault).replace('in "<unicode string>", ', "").split())


def _is_float(text: str) -> bool:
    return _FLOAT.fullmatch(text) is not None


def _check_events(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Safe):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > _DEEPEST:
            raise ValueError(f"line {line}: nested deeper than {_DEEPEST} levels")
        if documents > 1:
            raise ValueError(f"line {line}: a second document starts, expected one")
        if getattr(event, "tag", None):
            raise ValueError(f"line {line}: the tag {event.tag[:100]!r} is not supported; put quotes around text")


def _measure(node: Any, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the number of values in a node and its depth, aliases expanded."""
    if id(node) in known:
        if (found := known[id(node)]) is None:
            raise ValueError(f"line {node.start_mark.line + 1}: an alias contains itself")
        return found
    known[id(node)] = None
    count = depth = 1
    for child in [] if isinstance(node, yaml.ScalarNode) else node.value:
        for part in child if isinstance(child, tuple) else (child,):
            inner, below = _measure(part, known)
            count, depth = count + inner, max(depth, below + 1)
    if depth > _DEEPEST:
        raise ValueError(f"line {node.start_mark.line + 1}: nested deeper than {_DEEPEST} levels")
    known[id(node)] = count, depth
    return count, depth


def _similar_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    near = difflib.get_close_matches(path.name, [each.name for each in folder.glob("*.yaml")], 1)
    return f"; did you mean {folder / near[0]}?" if near else ""
