"""Data files beside this module: TOML read and checked, and errors that name the file and the key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping, Set
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

_DATA = files(__package__) / "data"

Kind = TypeVar("Kind")


def names_of(kind: str) -> list[str]:
    """Names of the data files of a kind: ``"maps"``, ``"terrains"`` or ``"units"``.

    Example:
        >>> names_of("units")[:2]
        ['baneling', 'colossus']
    """
    return sorted(f.name.removesuffix(".toml") for f in (_DATA / kind).iterdir() if f.name.endswith(".toml"))


def read(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """Read a data file.

    Returns:
        What to call the file in errors, and its table.

    Raises:
        ValueError: If there is no such file, or it is no TOML; names those there are, or the near one first.
    """
    known = names_of(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"Unknown {kind[:-1]} {name!r}. {hint}Known: {', '.join(known)}.")
    file: Traversable = _DATA / kind / f"{name}.toml"
    try:
        return f"{kind}/{name}.toml", tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{kind}/{name}.toml must be written in TOML: {error}.") from None


def expect_keys(file: str, table: Mapping[str, Any], needed: Set[str], optional: Set[str] = frozenset()) -> None:
    """Refuse a table that lacks keys or has others.

    Raises:
        ValueError: Naming the file, the keys and those that are expected.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{file} must be a table, got {table!r}.")
    expected = ", ".join(sorted(needed | optional))
    if missing := needed - table.keys():
        raise ValueError(f"{file} lacks {', '.join(sorted(missing))}. Expected the keys {expected}.")
    if stray := table.keys() - needed - optional:
        raise ValueError(f"{file} has the unknown key {', '.join(sorted(stray))}. Expected {expected}.")


def number(file: str, key: str, value: Any, *, positive: bool = True) -> float:
    """A number from a data file, above zero or at least zero.

    Raises:
        ValueError: If it is none or too small; names the file and the key.
    """
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not known or value < 0 or (positive and value == 0):
        least = "a positive number" if positive else "a number of at least 0"
        raise ValueError(f"{file}: {key} must be {least}, got {value!r}.")
    return float(value)


def whole(file: str, key: str, value: Any) -> int:
    """A count from a data file.

    Raises:
        ValueError: If it is not a whole number of at least 1; names the file and the key.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{file}: {key} must be a whole number of at least 1, got {value!r}.")
    return value


def point(file: str, key: str, value: Any) -> tuple[float, float]:
    """A place from a data file.

    Raises:
        ValueError: If it is not a pair of numbers; names the file and the key.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)):
        raise ValueError(f"{file}: {key} must be a point [x, y], got {value!r}.")
    return float(value[0]), float(value[1])


def words(file: str, key: str, value: Any, known: Set[str]) -> tuple[str, ...]:
    """Words from a data file, each of a known few.

    Raises:
        ValueError: If it is not a list of them; names the file and the key.
    """
    if not isinstance(value, list) or not set(map(repr, value)) <= set(map(repr, known)):
        raise ValueError(f"{file}: {key} must be a list out of {', '.join(sorted(known))}, got {value!r}.")
    return tuple(value)


def numbers_of(kind: type[Kind], file: str, key: str, table: Any, positive: Set[str], **given: Any) -> Kind:
    """Make a dataclass of numbers from a table; fields that were ``given`` are not looked for.

    Raises:
        ValueError: If keys are missing or unknown, or a value is no number, is negative, or is zero and ``positive``.
    """
    where = f"{file} [{key}]" if key else file
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in given}  # type: ignore[arg-type]
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    expect_keys(where, table, needed, fields.keys() - needed)
    prefix = f"{key}." if key else ""
    values = {name: number(file, prefix + name, value, positive=name in positive) for name, value in table.items()}
    return kind(**values, **given)
