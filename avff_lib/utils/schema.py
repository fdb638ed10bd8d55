"""Values from a file, checked against annotations before anything is built from them."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

from avff_lib.errors import AVFFError

MAX = 1e9  # of numbers and lengths whose annotation states no limits; nothing here is larger
SHORTEN = reprlib.Repr()  # values in a file can have any length
SHORTEN.maxstring = 80
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a terminal obeys some of them


def check_fields(values: Mapping[str, Any], kind: type, prefix: str = "") -> None:
    """Check the fields of a dataclass or of a ``TypedDict`` against their annotations.

    An annotation is bool, int, float or str, a ``Literal`` of strings, a list or tuple of these, X | None,
    or again a dataclass or ``TypedDict``. ``Annotated[X, (least, greatest)]`` limits a number, or the length
    of a text or of a list. Fields may be missing; the caller checks for these.

    Args:
        values: by name, as JSON returns them; tuples may be lists, and a dataclass may be a mapping.
        kind: the dataclass or ``TypedDict``.
        prefix: of the names in error messages.

    Raises:
        AVFFError: a name is unknown, or a value has another type or is outside its limits.
    """
    hints = _hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise AVFFError(f"{SHORTEN.repr(prefix + name)} is not a setting of this version; remove it")
        _check(f"{prefix}{name}", value, hints[name])


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _check(name: str, value: Any, kind: Any) -> None:
    low, high = -MAX, MAX
    if get_origin(kind) is Annotated:
        kind, (low, high) = get_args(kind)
    arguments, number = get_args(kind), isinstance(value, int | float) and not isinstance(value, bool)
    limits = f"{low:g} to {high:g}"
    if NoneType in arguments:
        (other,) = set(arguments) - {NoneType}
        if value is not None:
            _check(name, value, other)
    elif is_typeddict(kind) or is_dataclass(kind):
        settings = vars(value) if is_dataclass(value) else value
        _expect(isinstance(settings, dict), name, value, "settings by name")
        check_fields(settings, kind, f"{name}.")
    elif get_origin(kind) is tuple:
        fits = isinstance(value, list | tuple) and len(value) == len(arguments)
        _expect(fits, name, value, f"{len(arguments)} values")
        for index, (item, part) in enumerate(zip(value, arguments, strict=True)):
            _check(f"{name}[{index}]", item, part)
    elif get_origin(kind) is list:
        fits = isinstance(value, list | tuple) and low <= len(value) <= high
        _expect(fits, name, value, f"a list of {limits} values")
        for index, item in enumerate(value):
            _check(f"{name}[{index}]", item, arguments[0])
    elif get_origin(kind) is Literal:
        _expect(value in arguments, name, value, f"one of {', '.join(arguments)}")
    elif kind is bool:
        _expect(isinstance(value, bool), name, value, "true or false")
    elif kind is str:
        fits = isinstance(value, str) and low <= len(value) <= high and not CONTROL.search(value)
        _expect(fits, name, value, f"a text of {limits} characters in one line")
    elif kind is int:
        _expect(
            number and isinstance(value, int) and low <= value <= high, name, value, f"an integer, {limits}"
        )
    else:
        assert kind is float, f"{name} is annotated as {kind}"
        _expect(number and low <= value <= high, name, value, f"a number, {limits}")  # no NaN is in a range


def _expect(fits: bool, name: str, value: Any, expected: str) -> None:
    if not fits:
        raise AVFFError(f"{name} is {SHORTEN.repr(value)}; expected {expected}")
