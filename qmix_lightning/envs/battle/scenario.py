"""What a battle is made of: two teams, the ground they fight on and what the enemies do, read from the data files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from string import hexdigits
from typing import Any, Literal, TypeVar

from qmix_lightning.envs.battle.reading import expect_keys, names_of, number, point, read, whole, words
from qmix_lightning.envs.battle.unit_types import UnitType, load_unit

Pathing = Literal["likely", "inner", "outer"]

Named = TypeVar("Named")

MAP_SIZE = 32
"""Cells along each side of every map of SMAC; no map may be larger."""


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
class RandomTeams:
    """Teams that are drawn anew for every battle, as in SMACv2.

    Args:
        n_agents: Units of the learning team.
        n_enemies: Units of the scripted team; as far as there are as many, of the same types.
        units: Their types.
        weights: Chance of each.
        never_alone: Types of which alone no team may be.
    """

    n_agents: int
    n_enemies: int
    units: tuple[UnitType, ...]
    weights: tuple[float, ...]
    never_alone: tuple[UnitType, ...]


@dataclass(frozen=True)
class Scenario:
    """One map: two teams, the ground they fight on, and how long.

    Args:
        name: The data file's name, e.g. ``"3m"``.
        allies: Squads of the learning team; none if teams are random.
        enemies: Squads of the scripted team.
        walkable: Rows of cells from south (y = 0) to north, True where a unit may stand.
        heights: Rows of the same cells, from 0 to 255.
        attack_move_to: Ends of the line on which the point lies that the enemies attack-move to, usually the same.
        hunt: The enemies are ordered to attack the agents instead, wherever they are.
        episode_limit: Environment steps after which time runs out.
        ally_types: Types by the bits with which SMAC codes them for allies; none where it does not.
        enemy_types: The same for enemies.
        random_teams: How teams are drawn.
    """

    name: str
    allies: tuple[Squad, ...]
    enemies: tuple[Squad, ...]
    walkable: tuple[tuple[bool, ...], ...]
    heights: tuple[tuple[int, ...], ...]
    attack_move_to: tuple[tuple[float, float], tuple[float, float]] | None
    hunt: bool
    episode_limit: int
    ally_types: tuple[UnitType, ...] = ()
    enemy_types: tuple[UnitType, ...] = ()
    random_teams: RandomTeams | None = None

    @property
    def version(self) -> int:
        """Whose rules count: 1 for SMAC's, 2 for SMACv2's."""
        return 2 if self.random_teams else 1

    @property
    def n_agents(self) -> int:
        """Number of allied units."""
        return self.random_teams.n_agents if self.random_teams else sum(squad.count for squad in self.allies)

    @property
    def n_enemies(self) -> int:
        """Number of enemy units."""
        return self.random_teams.n_enemies if self.random_teams else sum(squad.count for squad in self.enemies)

    @property
    def unit_types(self) -> tuple[UnitType, ...]:
        """The types that take part, each once, in the order in which SMAC counts the agents."""
        if self.random_teams:
            return tuple(sorted(self.random_teams.units, key=lambda unit: unit.name))
        return tuple(dict.fromkeys([*self.ally_types, *(squad.unit for squad in self.allies + self.enemies)]))

    def shields(self, side: Literal["allies", "enemies"]) -> bool:
        """Whether SMAC shows shields of a side: those of Protoss."""
        units = self.random_teams.units if self.random_teams else tuple(squad.unit for squad in getattr(self, side))
        return units[0].race == "protoss"


def map_names() -> list[str]:
    """Names of all maps that can be played.

    Example:
        >>> len(map_names()), "3m" in map_names(), "terran_5_vs_5" in map_names()
        (38, True, True)
    """
    return names_of("maps")


@cache
def load_scenario(name: str, pathing: Pathing = "likely") -> Scenario:
    """Read a map.

    Args:
        name: One of :func:`map_names`.
        pathing: Which of the two readings of the map archive says where units can walk; the ``"likely"`` one is named
            in the terrain's file, with the reason.

    Raises:
        ValueError: If there is no such map, or its file, a unit's or a terrain's is wrong; names the file and the key.

    Example:
        >>> scenario = load_scenario("5m_vs_6m")
        >>> scenario.n_agents, scenario.n_enemies, scenario.episode_limit
        (5, 6, 70)
    """
    if pathing not in ("likely", "inner", "outer"):
        raise ValueError(f"Unknown pathing {pathing!r}. Expected 'likely', 'inner' or 'outer'.")
    file, table = read("maps", name)
    teams = {"random_teams"} if "random_teams" in table else {"allies", "enemies"}
    optional = {"attack_move_to", "hunt", "ally_types", "enemy_types"}
    expect_keys(file, table, {"terrain", "episode_limit"} | teams, optional)
    drawn = _random_teams(file, table["random_teams"]) if "random_teams" in table else None
    bits = drawn.units if drawn else ()
    walkable, heights = _look_up(file, "terrain", lambda terrain: _terrain(terrain, pathing), table["terrain"])
    size = len(walkable[0]), len(walkable)
    allies, enemies = _squads(file, "allies", table, size), _squads(file, "enemies", table, size)
    return Scenario(
        name=name,
        allies=allies,
        enemies=enemies,
        walkable=walkable,
        heights=heights,
        attack_move_to=_goal(file, table.get("attack_move_to"), size),
        hunt=_hunt(file, table),
        episode_limit=whole(file, "episode_limit", table["episode_limit"]),
        ally_types=bits or _types(file, "ally_types", table, allies),
        enemy_types=bits or _types(file, "enemy_types", table, enemies),
        random_teams=drawn,
    )


def _terrain(name: str, pathing: Pathing) -> tuple[tuple[tuple[bool, ...], ...], tuple[tuple[int, ...], ...]]:
    """Where one can walk, and how high the ground is."""
    file, drawing = read("terrains", name)
    expect_keys(file, drawing, {"outer", "height"}, {"inner", "likely"})
    likely = drawing.pop("likely", "inner")
    if likely not in ("inner", "outer"):
        raise ValueError(f"{file}: likely must be 'inner' or 'outer', got {likely!r}.")
    if pathing == "likely":
        pathing = likely
    drawing.setdefault("inner", drawing["outer"])  # where it is known that units do not walk on that one
    for key, value in drawing.items():
        if not isinstance(value, str):
            raise ValueError(f"{file}: {key} must be a drawing of lines, got {value!r}.")
    rows, heights = drawing[pathing].split(), drawing["height"].split()
    if len({len(row) for row in rows}) != 1 or not set("".join(rows)) <= {".", "#"}:
        raise ValueError(f"{file}: {pathing} must be rows of equal length of '.' (walkable) and '#'.")
    if {len(rows), len(rows[0])} - set(range(1, MAP_SIZE + 1)):
        raise ValueError(
            f"{file}: expected at most {MAP_SIZE} rows of {MAP_SIZE} cells, got {len(rows)} of {len(rows[0])}."
        )
    if [len(row) for row in heights] != [2 * len(rows[0])] * len(rows) or not set("".join(heights)) <= set(hexdigits):
        raise ValueError(f"{file}: height must be {len(rows)} rows of {len(rows[0])} pairs of hexadecimal digits.")
    return (
        tuple(tuple(cell == "." for cell in row) for row in reversed(rows)),
        tuple(tuple(bytes.fromhex(row)) for row in reversed(heights)),
    )


def _look_up(file: str, key: str, load: Callable[[str], Named], name: Any) -> Named:
    """Load what a file names, with errors that say where it is named."""
    if not isinstance(name, str):
        raise ValueError(f"{file}: {key} must be a name, got {name!r}.")
    try:
        return load(name)
    except ValueError as error:
        raise ValueError(f"{file}: {key}: {error}") from None


def _squads(file: str, side: str, table: dict[str, Any], size: tuple[int, int]) -> tuple[Squad, ...]:
    squads, given = [], table.get(side, [])
    if not isinstance(given, list) or (side in table and not given):
        raise ValueError(f"{file}: {side} must be tables [[{side}]], one at least, got {given!r}.")
    for squad in given:
        expect_keys(f"{file} [[{side}]]", squad, {"unit", "count", "at"})
        at = _place(file, f"{side}.at", squad["at"], size)
        unit = _look_up(file, f"{side}.unit", load_unit, squad["unit"])
        squads.append(Squad(unit, whole(file, f"{side}.count", squad["count"]), at))
    return tuple(squads)


def _place(file: str, key: str, value: Any, size: tuple[int, int]) -> tuple[float, float]:
    at = point(file, key, value)
    if not (0 <= at[0] <= size[0] and 0 <= at[1] <= size[1]):
        raise ValueError(f"{file}: {key} must lie on the map of {size[0]} by {size[1]} cells, got {list(at)}.")
    return at


def _goal(file: str, value: Any, size: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], list):
        return _place(file, "attack_move_to", value[0], size), _place(file, "attack_move_to", value[1], size)
    return (_place(file, "attack_move_to", value, size),) * 2


def _hunt(file: str, table: dict[str, Any]) -> bool:
    hunt = table.get("hunt", False)
    if not isinstance(hunt, bool) or (hunt and "attack_move_to" in table):
        raise ValueError(f"{file}: hunt must be true or false, and false with attack_move_to, got {hunt!r}.")
    return hunt


def _types(file: str, key: str, table: dict[str, Any], squads: tuple[Squad, ...]) -> tuple[UnitType, ...]:
    if key not in table:
        return ()
    there = frozenset(squad.unit.name for squad in squads)
    names = words(file, key, table[key], there)
    if set(names) != there:
        raise ValueError(f"{file}: {key} must name each of {', '.join(sorted(there))} once, got {list(names)}.")
    return tuple(map(load_unit, names))


def _random_teams(file: str, table: dict[str, Any]) -> RandomTeams:
    where = f"{file} [random_teams]"
    expect_keys(where, table, {"n_agents", "n_enemies", "units", "weights", "never_alone"})
    names = words(file, "random_teams.units", table["units"], frozenset(names_of("units")))
    given = table["weights"] if isinstance(table["weights"], list) else [table["weights"]]
    weights = tuple(number(file, "random_teams.weights", weight) for weight in given)
    if len(weights) != len(names) or abs(sum(weights) - 1) > 1e-9:
        raise ValueError(f"{where}: expected {len(names)} weights with the sum 1, one a unit, got {list(weights)}.")
    alone = words(file, "random_teams.never_alone", table["never_alone"], frozenset(names))
    if set(names) <= set(alone):
        raise ValueError(f"{where}: never_alone must leave out one of {', '.join(names)}, got {list(alone)}.")
    return RandomTeams(
        n_agents=whole(file, "random_teams.n_agents", table["n_agents"]),
        n_enemies=whole(file, "random_teams.n_enemies", table["n_enemies"]),
        units=tuple(map(load_unit, names)),
        weights=weights,
        never_alone=tuple(map(load_unit, alone)),
    )
