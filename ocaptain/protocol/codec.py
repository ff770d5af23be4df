"""Convert dataclasses to JSON objects and back; received objects are checked field by field.

A field's type determines the check; :func:`validated` adds bounds. Unknown fields are ignored, so that
a newer sender may add some. Standard library only.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import math
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
#: What ``get_origin`` says of a union, in both spellings; ``A | B`` is one of types from Python 3.10 on.
_UNIONS = {Union, getattr(types, "UnionType", Union)}


class Malformed(ValueError):
    """A received object is invalid; the message says where and why."""


def validated(default: Any = dataclasses.MISSING, **bounds: Any) -> Any:
    """Return a dataclass field with bounds.

    Args:
        default: of the field; without it the field is required.
        bounds: ``minimum`` and ``maximum`` of a number, ``max_length`` of text or a list, ``pattern`` that
            matches all of a text.
    """
    return dataclasses.field(default=default, metadata=bounds)


def to_dict(value: Any) -> Any:
    """Convert a dataclass, or a container of them, to JSON types."""
    if dataclasses.is_dataclass(value):
        return {_wire_name(field.name): to_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_dict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(one) for one in value]
    return value


def from_dict(cls: type[_T], data: Any, where: str = "") -> _T:
    """Convert a JSON object to a dataclass.

    Raises:
        Malformed: a field is missing, has a wrong type, or is out of bounds.
    """
    if not isinstance(data, Mapping):
        raise Malformed(f"{where or 'the message'} must be a JSON object")
    values = {}
    for field, hint in _fields(cast("Any", cls)):
        name = _wire_name(field.name)
        field_path = f"{where}.{name}" if where else name
        if name in data:
            values[field.name] = _require_bounds(_convert(hint, data[name], field_path), field.metadata, field_path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Malformed(f"{field_path} is missing")
    return cls(**values)


def _wire_name(name: str) -> str:
    """Return a field's name in JSON: ``class_`` becomes ``class``, a keyword of Python."""
    return name.rstrip("_")


@functools.lru_cache(maxsize=None)
def _fields(cls: Any) -> Sequence[tuple[Any, Any]]:
    hints = get_type_hints(cls) if len(_UNIONS) > 1 else _old_hints(cls)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


class _OldUnions(ast.NodeTransformer):
    """Writes ``A | B`` as ``Union[A, B]``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        pair = ast.Tuple([self.visit(node.left), self.visit(node.right)], ast.Load())
        return ast.Subscript(ast.Attribute(ast.Name("typing", ast.Load()), "Union", ast.Load()), pair, ast.Load())


def _old_hints(cls: Any) -> Mapping[str, Any]:
    """Return the types of a class's fields as Python 3.9 can read them: there, types have no ``|``."""
    hints = {}
    for base in reversed(cls.__mro__):
        names = {**vars(sys.modules[base.__module__]), "typing": typing}
        for name, text in vars(base).get("__annotations__", {}).items():
            tree = ast.fix_missing_locations(_OldUnions().visit(ast.parse(text, mode="eval")))
            hints[name] = eval(compile(tree, base.__module__, "eval"), names)  # noqa: S307 - this package's own source
    return hints


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to a type. Raises Malformed."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in _UNIONS:
        return _convert_union(get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(cast("type[Any]", hint), value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(get_args(hint)[0], one, f"{where}.{number}") for number, one in enumerate(value))
    if origin in {dict, Mapping} and isinstance(value, Mapping):
        return {str(key): _convert(get_args(hint)[1], one, f"{where}.{key}") for key, one in value.items()}
    if hint is float:
        with contextlib.suppress(OverflowError):  # an integer that is too large for a float
            if type(value) in {int, float} and math.isfinite(value):
                return float(value)
    elif origin is None and type(value) is hint:  # a bool is no int
        return value
    raise Malformed(f"{where} is of another type than {getattr(hint, '__name__', hint)}")


def _convert_union(hints: Sequence[Any], value: Any, where: str) -> Any:
    """Convert a JSON value to the first type that fits. Raises Malformed."""
    if value is None and type(None) in hints:
        return None
    rest = [hint for hint in hints if hint is not type(None)]
    for hint in rest[:-1]:
        try:
            return _convert(hint, value, where)
        except Malformed:
            continue
    return _convert(rest[-1], value, where)


def _require_bounds(value: Any, bounds: Mapping[str, Any], where: str) -> Any:
    if value is None or not bounds:
        return value
    if "minimum" in bounds and value < bounds["minimum"]:
        raise Malformed(f"{where} must be at least {bounds['minimum']}")
    if "maximum" in bounds and value > bounds["maximum"]:
        raise Malformed(f"{where} is more than {bounds['maximum']}")
    if "max_length" in bounds and len(value) > bounds["max_length"]:
        raise Malformed(f"{where} is longer than {bounds['max_length']}")
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], value):
        raise Malformed(f"{where} does not have the expected format")
    return value
