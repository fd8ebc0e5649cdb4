"""What a battle is made of: unit types, terrains and maps, read from the data files beside this module."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

_DATA = files(__package__) / "data"

Pathing = Literal["inner", "outer"]


@dataclass(frozen=True)
class Weapon:
    """How a unit attacks.

    Args:
        damage: Health taken by one attack.
        range: Reach from edge to edge, in cells.
        period: Catalogue seconds between attacks, before the jitter.
        wind_up: Catalogue seconds from the start of an attack to its damage.
    """

    damage: float
    range: float
    period: float
    wind_up: float


@dataclass(frozen=True)
class UnitType:
    """One kind of unit, in cells and catalogue seconds.

    Args:
        name: The data file's name.
        race: ``"terran"``, ``"protoss"`` or ``"zerg"``.
        health: Health at full strength.
        radius: Of the body; weapons reach from edge to edge.
        separation_radius: Units closer than the sum of theirs push each other apart.
        inner_radius: What must fit on walkable ground.
        speed: Cells a second.
        cooldown_scale: Game loops by which SMAC divides the weapon's cooldown in the state.
        weapon: How it attacks.
    """

    name: str
    race: str
    health: float
    radius: float
    separation_radius: float
    inner_radius: float
    speed: float
    cooldown_scale: float
    weapon: Weapon


@dataclass(frozen=True)
class Squad:
    """Units of one type that a map creates at one point.

    Args:
        unit: Their type.
        count: How many.
        at: Where, ``(x, y)`` in cells.
    """

    unit: UnitType
    count: int
    at: tuple[float, float]


@dataclass(frozen=True)
class Scenario:
    """One map: two teams, the ground they fight on, and how long.

    Args:
        name: The data file's name, e.g. ``"3m"``.
        allies: Squads of the learning team.
        enemies: Squads of the scripted team.
        walkable: Rows of cells from south (y = 0) to north, True where a unit may stand.
        attack_move_to: Where the enemies attack-move to from the start.
        episode_limit: Environment steps after which time runs out.
    """

    name: str
    allies: tuple[Squad, ...]
    enemies: tuple[Squad, ...]
    walkable: tuple[tuple[bool, ...], ...]
    attack_move_to: tuple[float, float]
    episode_limit: int

    @property
    def n_agents(self) -> int:
        """Number of allied units."""
        return sum(squad.count for squad in self.allies)

    @property
    def n_enemies(self) -> int:
        """Number of enemy units."""
        return sum(squad.count for squad in self.enemies)

    @property
    def unit_types(self) -> tuple[UnitType, ...]:
        """The types that take part, each once, in the order of their first squad."""
        return tuple(dict.fromkeys(squad.unit for squad in self.allies + self.enemies))


def map_names() -> list[str]:
    """Names of all maps that can be played.

    Example:
        >>> "3m" in map_names()
        True
    """
    return sorted(_names("maps"))


@cache
def load_scenario(name: str, pathing: Pathing = "inner") -> Scenario:
    """Read a map.

    Args:
        name: One of :func:`map_names`.
        pathing: Which of the two readings of the map archive says where units can walk.

    Raises:
        ValueError: If there is no such map, or its file, a unit's or a terrain's is wrong; names the file and the key.

    Example:
        >>> scenario = load_scenario("5m_vs_6m")
        >>> scenario.n_agents, scenario.n_enemies, scenario.episode_limit
        (5, 6, 70)
    """
    if pathing not in ("inner", "outer"):
        raise ValueError(f"Unknown pathing {pathing!r}. Expected 'inner' or 'outer'.")
    file, table = _read("maps", name)
    _expect_keys(file, table, {"terrain", "episode_limit", "attack_move_to", "allies", "enemies"})
    drawing, terrain = _read("terrains", table["terrain"])
    _expect_keys(drawing, terrain, {"inner", "outer"})
    rows = terrain[pathing].split()
    if len({len(row) for row in rows}) != 1 or not set("".join(rows)) <= {".", "#"}:
        raise ValueError(f"{drawing}: {pathing} must be rows of equal length of '.' (walkable) and '#'.")
    return Scenario(
        name=name,
        allies=_squads(file, table["allies"]),
        enemies=_squads(file, table["enemies"]),
        walkable=tuple(tuple(cell == "." for cell in row) for row in reversed(rows)),
        attack_move_to=_point(file, "attack_move_to", table["attack_move_to"]),
        episode_limit=_whole(file, "episode_limit", table["episode_limit"]),
    )


@cache
def load_unit(name: str) -> UnitType:
    """Read a unit type.

    Args:
        name: The data file's name, e.g. ``"marine"``.

    Raises:
        ValueError: If there is no such unit or its file is wrong; names the file and the key.

    Example:
        >>> load_unit("marine").weapon.range
        5.0
    """
    file, table = _read("units", name)
    _expect_keys(file, table, {field.name for field in fields(UnitType)} - {"name"})
    weapon = table.pop("weapon")
    _expect_keys(f"{file} [weapon]", weapon, {field.name for field in fields(Weapon)})
    for key, value in weapon.items():
        _positive(file, f"weapon.{key}", value)
    for key, value in table.items():
        if key != "race":
            _positive(file, key, value)
    return UnitType(name=name, weapon=Weapon(**weapon), **table)


def _names(kind: str) -> list[str]:
    return [file.name.removesuffix(".toml") for file in (_DATA / kind).iterdir() if file.name.endswith(".toml")]


def _read(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    file: Traversable = _DATA / kind / f"{name}.toml"
    if name not in _names(kind):
        near = difflib.get_close_matches(name, _names(kind), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown {kind[:-1]} {name!r}. {hint} Known: {', '.join(sorted(_names(kind)))}.")
    return f"{kind}/{name}.toml", tomllib.loads(file.read_text(encoding="utf-8"))


def _expect_keys(file: str, table: Mapping[str, Any], expected: set[str]) -> None:
    if missing := expected - table.keys():
        raise ValueError(f"{file} lacks {', '.join(sorted(missing))}. Expected the keys {', '.join(sorted(expected))}.")
    if stray := table.keys() - expected:
        raise ValueError(
            f"{file} has the unknown key {', '.join(sorted(stray))}. Expected {', '.join(sorted(expected))}."
        )


def _positive(file: str, key: str, value: Any) -> Any:
    if not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{file}: {key} must be a positive number, got {value!r}.")
    return value


def _whole(file: str, key: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{file}: {key} must be a whole number of at least 1, got {value!r}.")
    return value


def _point(file: str, key: str, value: Any) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)):
        raise ValueError(f"{file}: {key} must be a point [x, y], got {value!r}.")
    return float(value[0]), float(value[1])


def _squads(file: str, tables: list[dict[str, Any]]) -> tuple[Squad, ...]:
    for table in tables:
        _expect_keys(file, table, {"unit", "count", "at"})
    return tuple(
        Squad(load_unit(table["unit"]), _whole(file, "count", table["count"]), _point(file, "at", table["at"]))
        for table in tables
    )
