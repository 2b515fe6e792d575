"""Plain data between a process and its child: JSON for the structure, bytes beside it, checked against a type.

The type comes from the annotations of the function that runs in the child, so both sides know it and the child cannot
choose it. Allowed are: None, bool, int of 64 bits, float, str, bytes, lists, tuples, dicts, literals, unions of
these, and frozen dataclasses of such fields. Without an annotation, the JSON types and bytes are allowed. Decoding
never runs code.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

_MAX_DEPTH: Final = 32
_MAX_INT: Final = 2**63
_BYTES: Final = "$bytes"
_TEXT: Final = "$text"
_LONG_TEXT_CHARS: Final = 1024
"""Longer texts are sent as UTF-8 bytes beside the JSON."""


class NotPlain(ValueError):
    """The value is not of its declared type, or the type is not plain data."""


def to_plain(value: Any, kind: Any, blobs: list[bytes]) -> Any:
    """`value`, of type `kind`, as JSON types; its bytes are appended to `blobs`. Raises NotPlain."""
    return _encode(value, kind, blobs, 0)


def from_plain(data: Any, kind: Any, blobs: list[bytes]) -> Any:
    """The value of type `kind` that `to_plain` encoded as `data` and `blobs`. Raises NotPlain for anything else."""
    return all_from_plain([data], [kind], blobs)[0]


def all_from_plain(data: Any, kinds: Sequence[Any], blobs: list[bytes]) -> list[Any]:
    """As `from_plain`, a value for each of `kinds`."""
    _check_type(data, list)
    if len(data) != len(kinds):
        raise NotPlain(f"{len(data)} values in place of {len(kinds)}")
    used: list[int] = []
    values = [_decode(one, kind, blobs, used, 0) for one, kind in zip(data, kinds, strict=True)]
    if len(used) != len(blobs):
        raise NotPlain("bytes that belong to no value")
    return values


@lru_cache(maxsize=64)
def signature(function: Callable[..., Any]) -> tuple[tuple[Any, ...] | None, Any]:
    """Types of the positional parameters (None where they are unknown) and of the result."""
    if not isinstance(function, types.FunctionType):
        return None, Any
    hints = get_type_hints(function)
    kinds: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return None, hints.get("return", Any)
        kinds.append(hints.get(parameter.name, Any))
    return tuple(kinds), hints.get("return", Any)


def argument_kinds(function: Callable[..., Any], count: int) -> list[Any]:
    """Raises NotPlain where the function does not take so many."""
    kinds, _ = signature(function)
    if kinds is None:
        return [Any] * count
    if count > len(kinds):
        raise NotPlain(f"{function.__name__} takes {len(kinds)} arguments, not {count}")
    return list(kinds[:count])


@lru_cache(maxsize=64)
def _fields(cls: Any) -> Mapping[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _encode(value: Any, kind: Any, blobs: list[bytes], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise NotPlain("nested too deeply")
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return _encode_untyped(value, blobs, depth)
    if origin in (Union, types.UnionType):
        return _first(lambda one: _encode(value, one, blobs, depth), of, blobs)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if type(value) is not kind:
            raise NotPlain(f"{_name(value)} in place of {kind.__name__}")
        fields = _fields(kind)  # type: ignore[arg-type]
        return {name: _encode(getattr(value, name), one, blobs, depth + 1) for name, one in fields.items()}
    if origin is dict:
        _check_type(value, dict)
        return [[_encode(k, of[0], blobs, depth + 1), _encode(v, of[1], blobs, depth + 1)] for k, v in value.items()]
    if origin in (list, tuple):
        _check_type(value, origin)
        kinds = _element_kinds(origin, of, len(value))
        return [_encode(one, each, blobs, depth + 1) for one, each in zip(value, kinds, strict=True)]
    return _encode_scalar(value, kind, blobs)


def _encode_untyped(value: Any, blobs: list[bytes], depth: int) -> Any:
    if type(value) is dict:
        if any(type(key) is not str or key in (_BYTES, _TEXT) for key in value):
            raise NotPlain("a dict whose keys are not plain text")
        return {key: _encode(one, Any, blobs, depth + 1) for key, one in value.items()}
    if type(value) in (list, tuple):
        return [_encode(one, Any, blobs, depth + 1) for one in value]
    return _encode_scalar(value, type(value), blobs)


def _encode_scalar(value: Any, kind: Any, blobs: list[bytes]) -> Any:
    value = _scalar(value, kind)
    if isinstance(value, bytes):
        blobs.append(value)
        return {_BYTES: len(blobs) - 1}
    if isinstance(value, str) and len(value) > _LONG_TEXT_CHARS:
        blobs.append(value.encode())
        return {_TEXT: len(blobs) - 1}
    return value


def _decode(data: Any, kind: Any, blobs: list[bytes], used: list[int], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise NotPlain("nested too deeply")
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return _decode_untyped(data, blobs, used, depth)
    if origin in (Union, types.UnionType):
        return _first(lambda one: _decode(data, one, blobs, used, depth), of, used)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        fields = _fields(kind)
        if type(data) is not dict or data.keys() != fields.keys():
            raise NotPlain(f"no {kind.__name__}")
        return kind(**{name: _decode(data[name], one, blobs, used, depth + 1) for name, one in fields.items()})
    if origin is dict:
        return _decode_dict(data, of, blobs, used, depth)
    if origin in (list, tuple):
        _check_type(data, list)
        kinds = _element_kinds(origin, of, len(data))
        return origin(_decode(one, each, blobs, used, depth + 1) for one, each in zip(data, kinds, strict=True))
    return _scalar(_taken(data, blobs, used), kind)


def _decode_untyped(data: Any, blobs: list[bytes], used: list[int], depth: int) -> Any:
    if type(data) is dict and not data.keys() & {_BYTES, _TEXT}:
        return {key: _decode(one, Any, blobs, used, depth + 1) for key, one in data.items()}
    if type(data) is list:
        return [_decode(one, Any, blobs, used, depth + 1) for one in data]
    value = _taken(data, blobs, used)
    return _scalar(value, type(value))


def _decode_dict(data: Any, of: tuple[Any, ...], blobs: list[bytes], used: list[int], depth: int) -> dict[Any, Any]:
    _check_type(data, list)
    decoded: dict[Any, Any] = {}
    for pair in data:
        if type(pair) is not list or len(pair) != 2:
            raise NotPlain("no pair of key and value")
        key = _decode(pair[0], of[0], blobs, used, depth + 1)
        if key in decoded:
            raise NotPlain("a key twice")
        decoded[key] = _decode(pair[1], of[1], blobs, used, depth + 1)
    return decoded


def _taken(data: Any, blobs: list[bytes], used: list[int]) -> Any:
    """`data` itself, or the bytes or the text to which it refers."""
    if type(data) is not dict:
        return data
    if len(data) == 1 and (key := next(iter(data))) in (_BYTES, _TEXT):
        index = data[key]
        if type(index) is int and index == len(used) and index < len(blobs):
            used.append(index)
            try:
                return blobs[index] if key == _BYTES else blobs[index].decode()
            except UnicodeDecodeError as error:
                raise NotPlain("text that is not UTF-8") from error
    raise NotPlain("a structure in place of a value")


def _scalar(value: Any, kind: Any) -> Any:
    """`value` itself where it is of `kind`, an integer also in place of a float."""
    if get_origin(kind) is Literal:
        if any(type(value) is type(one) and value == one for one in get_args(kind)):
            return value
    elif kind in (None, type(None)):
        if value is None:
            return None
    elif kind is float and type(value) in (int, float):
        if value == value:  # not NaN
            return _float(value)
    elif kind in (bool, bytes):
        if type(value) is kind:
            return value
    elif kind is int:
        if type(value) is int and -_MAX_INT <= value < _MAX_INT:
            return value
    elif kind is str and type(value) is str and _is_unicode(value):
        return value
    raise NotPlain(
        f"a value of type {_name(value)}" + ("" if type(value) is kind else f" in place of {_name_of(kind)}")
    )


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise NotPlain("a number beyond all bounds") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _first(attempt: Callable[[Any], Any], kinds: tuple[Any, ...], taken: list[Any]) -> Any:
    """The result of `attempt` for the first of `kinds` that fits. Raises NotPlain where none does."""
    before = len(taken)
    for kind in kinds:
        try:
            return attempt(kind)
        except NotPlain:
            del taken[before:]
    raise NotPlain("none of the types that it may be")


def _element_kinds(origin: Any, of: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if origin is list or (len(of) == 2 and of[1] is Ellipsis):
        return of[:1] * count
    if len(of) != count:
        raise NotPlain(f"{count} elements in place of {len(of)}")
    return of


def _check_type(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise NotPlain(f"{_name(value)} in place of {kind.__name__}")


def _name_of(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _name(value: Any) -> str:
    return type(value).__name__
