"""Render chat templates, which anybody may have written, within bounds of time and memory.

Jinja's sandbox keeps a template from the interpreter, not from a loop that never ends or a string of gigabytes. Here
every loop iteration, call, filter and comparison costs a step, and more steps by the size of what it reads and makes;
a rendering that has used up its steps, or that builds a longer text than allowed, is an error, the same on
every host. The clock is a backstop. A template has no loader: it can include and import nothing.
"""

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SOURCE_CHARS = 1 << 17
MAX_CHARS = 1 << 23
MAX_STEPS = 1_000_000
MAX_SECONDS = 15.0
# The largest whole number that a filter or a method may be given: widths and counts.
_MAX_COUNT = 100_000
_MAX_EXPONENT = 64
_CHARS_PER_STEP, _ITEMS_PER_STEP = 64, 8
_CLOCK_EVERY = 1024
# Llama 3's templates fall back to this day themselves. The real one would give a resumed run other prompts.
_TODAY = date(2024, 7, 26)
# A width or a precision that no chat template needs, or one that is an argument.
_WIDE = re.compile(r"\d{5}|\*|\{[^{}]*\{")


class BoundedTemplate:
    """A chat template, compiled as `transformers` compiles one: trimmed blocks, break and continue, `tojson` without
    HTML escapes, `raise_exception`, `strftime_now` (of a fixed day), `{% generation %}`.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(f"a template of {len(source):,} characters; at most {MAX_SOURCE_CHARS:,} are compiled")
        self._environment = _Environment()
        self._template = self._environment.from_string(source)

    def render(self, variables: Mapping[str, Any]) -> str:
        """Return the text. Raises whatever the template does, TemplateError where it goes beyond the bounds."""
        self._environment.refill()
        return self._template.render(**variables)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        self.refill()
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControls])
        self.filters["tojson"] = _to_json
        filters: Any = dict(self.filters)
        self.filters = {name: self._guarded(function) for name, function in filters.items()}
        self.filters |= {"bounded": self._charged, "bounded_loop": self._loop}
        tests: Any = dict(self.tests)
        self.tests = {name: self._guarded(function) for name, function in tests.items()}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "strftime_now": _today, "dict": _new_dict, "namespace": _Namespace}

    def refill(self) -> None:
        """Allow a whole rendering."""
        self._left, self._until, self._look = MAX_STEPS, time.monotonic() + MAX_SECONDS, _CLOCK_EVERY

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        """Join the pieces of a rendering, of a block or of a macro."""
        kept, length = [], 0
        for part in parts:
            self._charged(part)
            length += len(part)
            self._check_length(length)
            kept.append(part)
        return "".join(kept)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        owner = getattr(__obj, "__self__", None)
        __self._check_arguments(owner, getattr(__obj, "__name__", ""), args, kwargs)
        return __self._charged(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what can grow, if its result is of a bounded size."""
        if operator == "**" and not (_small(left, 1 << 32) and _small(right, _MAX_EXPONENT)):
            raise SecurityError("a power of large numbers")
        if operator == "*":
            self._check_product(left, right)
            self._check_product(right, left)
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        return self._charged(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Any:
        """Wrap string formatting in templates with a bounded width."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse `str.translate` as well, whose result has no bound."""
        return attr != "translate" and super().is_safe_attribute(obj, attr, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Metered().visit(tree)
        tree.set_environment(self)
        return tree

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        value_at = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            value = args[value_at] if len(args) > value_at else None
            self._charged(value)
            self._check_arguments(value, function.__name__.removeprefix("do_"), args[value_at + 1 :], kwargs)
            return self._charged(function(*args, **kwargs))

        return guarded

    def _check_arguments(self, value: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        for given in (*args, *kwargs.values()):
            self._charged(given)
            if isinstance(given, int) and abs(given) > _MAX_COUNT and name not in _OF_ANY_NUMBER:
                raise SecurityError(f"{name} with the number {str(given)[:20]}")
        if isinstance(value, str) and name == "format":
            _check_format(value)
        if isinstance(value, str) and name == "replace" and len(args) > 1:
            self._check_length(len(value) + value.count(str(args[0])) * len(str(args[1])))
        if name == "join":
            glue, items = (value, args[0]) if isinstance(value, str) and args else (args[0] if args else "", value)
            self._check_length(len(str(glue)) * len(items) if hasattr(items, "__len__") else 0)

    def _check_product(self, sized: Any, times: Any) -> None:
        if isinstance(times, int) and isinstance(sized, str | list | tuple | bytes):
            self._check_length(len(sized) * times)
        elif isinstance(times, int) and isinstance(sized, int):
            self._check_length(64 * (times.bit_length() + sized.bit_length()))

    def _check_length(self, length: int) -> None:
        if length > MAX_CHARS:
            raise SecurityError(f"it builds a text of more than {MAX_CHARS:,} characters")

    def _charged(self, value: Any) -> Any:
        length = len(value) if isinstance(value, str | list | tuple | dict) else 0
        self._check_length(length)
        self._left -= 1 + length // (_CHARS_PER_STEP if isinstance(value, str) else _ITEMS_PER_STEP)
        self._look -= 1
        if self._look < 0:
            self._look = _CLOCK_EVERY
            if time.monotonic() > self._until:
                raise SecurityError(f"it runs for more than {MAX_SECONDS:.0f} s")
        if self._left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")
        return value

    def _loop(self, iterable: Iterable[Any]) -> Iterable[Any]:
        if isinstance(iterable, Undefined):
            return iterable
        return self._counted(iter(iterable))

    def _counted(self, iterator: Iterator[Any]) -> Iterator[Any]:
        for item in iterator:
            self._charged(None)
            yield item


# Where the argument is a value and no size.
_OF_ANY_NUMBER = frozenset(
    {
        "default",
        "append",
        "get",
        "index",
        "count",
        "dict",
        "_new_dict",
        "_Namespace",
        "namespace",
        "range",
        "safe_range",
    }
)


class _Metered(NodeTransformer):
    """Meter what a template computes without a call: loops, concatenation, comparison, slices."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "bounded_loop")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, "bounded")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "bounded")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "bounded")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, "bounded") if isinstance(node.arg, nodes.Slice) and node.ctx == "load" else node


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for whoever masks losses by it; here it only holds them."""

    tags = {"generation"}  # noqa: RUF012  as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_caught"), [], [], body).set_lineno(lineno)

    def _caught(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(Namespace):
    """A namespace without names that could lead out of the sandbox."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *given = args
        attributes = dict(*given, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no place for {name!r}")


def _new_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _filter(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _small(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and abs(value) <= most


def _check_format(text: str) -> None:
    if len(text) > _MAX_COUNT or _WIDE.search(text):
        raise SecurityError("a format of a large or a computed width")


def _raise(message: str) -> str:
    raise TemplateError(message)


def _today(form: str) -> str:
    _check_format(form)
    return _TODAY.strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
