"""What a unit is: its body, its weapon and what it heals, read from the data files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from qmix_lightning.envs.battle.reading import number, numbers_of, read, words

RACES: Final = frozenset({"terran", "protoss", "zerg"})
ATTRIBUTES: Final = frozenset({"light", "armoured", "biological", "mechanical", "massive", "structure"})
PLANES: Final = ("ground", "above", "air")
"""Where a body is: on the ground, above it and yet within reach of ground weapons (a colossus), or in the air."""


@dataclass(frozen=True)
class CloseWeapon:
    """What a unit uses instead against whoever is very near, with the same damage and period.

    Args:
        range: Reach from edge to edge, in cells.
        wind_up: Catalogue seconds from the start of an attack to its damage.
    """

    range: float
    wind_up: float


@dataclass(frozen=True)
class Line:
    """A weapon that also hurts whoever stands on a line through its target, across the shot.

    Args:
        half_length: Cells on either side of the target.
        width: Cells from the line within which the edge of a body is hurt.
        delay: Catalogue seconds from the shot until the target is hurt.
        side_delay: And until the others are.
    """

    half_length: float
    width: float
    delay: float
    side_delay: float


@dataclass(frozen=True)
class Weapon:
    """How a unit attacks.

    Args:
        damage: Health or shield taken by one hit.
        range: Reach from edge to edge, in cells.
        period: Catalogue seconds between attacks, before the jitter.
        wind_up: Catalogue seconds from the start of an attack to its first hit or to the start of its missile.
        targets: Which planes it reaches, ``"ground"``, ``"air"``.
        bonus: Additional damage against attributes, as pairs.
        hits: Hits of one attack; armour counts against each.
        hit_delay: Catalogue seconds from the first hit to the second.
        range_slop: Cells beyond its reach to which a target may slip away during the wind-up.
        missile_speed: Cells a second of its missile; 0 means that it hits at once.
        flight: Catalogue seconds that it takes to arrive, whatever the distance.
        burst_radius: It bursts, and hurts everybody within so many cells; it does not survive that.
        close: What it uses against whoever is very near.
        line: Whom else it hurts.
    """

    damage: float
    range: float
    period: float
    wind_up: float
    targets: tuple[str, ...]
    bonus: tuple[tuple[str, float], ...] = ()
    hits: float = 1
    hit_delay: float = 0.0
    range_slop: float = 1.0
    missile_speed: float = 0.0
    flight: float = 0.0
    burst_radius: float = 0.0
    close: CloseWeapon | None = None
    line: Line | None = None


@dataclass(frozen=True)
class Heal:
    """How a unit heals biological units of its side.

    Args:
        range: Reach from edge to edge, in cells.
        acquire_range: Within which it looks for the wounded by itself.
        rate: Health a catalogue second.
        cost: Energy a point of health.
        least_energy: Energy with which it begins by itself.
        energy: At the start of a battle.
        energy_limit: The most it can have.
        energy_rate: Energy a second that comes back.
    """

    range: float
    acquire_range: float
    rate: float
    cost: float
    least_energy: float
    energy: float
    energy_limit: float
    energy_rate: float


@dataclass(frozen=True)
class UnitType:
    """One kind of unit, in cells and catalogue seconds.

    Args:
        name: The data file's name.
        race: ``"terran"``, ``"protoss"`` or ``"zerg"``.
        attributes: Against which weapons may have a bonus.
        health: Health at full strength.
        radius: Of the body; weapons reach from edge to edge.
        separation_radius: Units of a plane closer than the sum of theirs push each other apart.
        inner_radius: What must fit on walkable ground.
        speed: Cells a second; 0 for a building.
        sight: Cells that it sees under SMACv2's unit ranges.
        cooldown_scale: Game loops by which SMAC divides the weapon's cooldown in the state, or energy of a healer.
        plane: One of :data:`PLANES`.
        shield: Shield at full strength; takes damage before the health, without armour.
        armour: Damage less of every hit on the health.
        acceleration: Cells a second squared; 0 means that it starts at full speed.
        regeneration: Health a second that comes back always.
        creep_decay: Health a second that is lost off creep, if that is switched on.
        weapon: How it attacks.
        heal: How it heals.
    """

    name: str
    race: str
    attributes: tuple[str, ...]
    health: float
    radius: float
    separation_radius: float
    inner_radius: float
    speed: float
    sight: float
    cooldown_scale: float
    plane: str = "ground"
    shield: float = 0.0
    armour: float = 0.0
    acceleration: float = 0.0
    regeneration: float = 0.0
    creep_decay: float = 0.0
    weapon: Weapon | None = None
    heal: Heal | None = None

    def damage_to(self, other: UnitType) -> float:
        """Damage of one hit of this unit's weapon on ``other``, before its armour; 0 if it cannot attack it.

        Example:
            >>> stalker, medivac = load_unit("stalker"), load_unit("medivac")
            >>> stalker.damage_to(medivac), medivac.damage_to(stalker)
            (14.0, 0.0)
        """
        reached = {"ground": {"ground"}, "air": {"air"}, "above": {"ground", "air"}}[other.plane]
        if self.weapon is None or not reached & set(self.weapon.targets):
            return 0.0
        return self.weapon.damage + sum(more for attribute, more in self.weapon.bonus if attribute in other.attributes)


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
    file, table = read("units", name)
    weapon, heal = table.pop("weapon", None), table.pop("heal", None)
    given: dict[str, Any] = {"name": name, "race": table.pop("race", None), "plane": table.pop("plane", "ground")}
    for key, known in (("race", RACES), ("plane", frozenset(PLANES))):
        if given[key] not in known:
            raise ValueError(f"{file}: {key} must be one of {', '.join(sorted(known))}, got {given[key]!r}.")
    given["attributes"] = words(file, "attributes", table.pop("attributes", None), ATTRIBUTES)
    given["weapon"] = None if weapon is None else _weapon(file, weapon)
    given["heal"] = None if heal is None else numbers_of(Heal, file, "heal", heal, {"range", "rate"})
    positive = {"health", "radius", "separation_radius", "inner_radius", "sight", "cooldown_scale"}
    return numbers_of(UnitType, file, "", table, positive, **given)


def _weapon(file: str, table: Any) -> Weapon:
    for key, value in (("weapon", table), ("weapon.bonus", table.get("bonus", {}) if isinstance(table, dict) else {})):
        if not isinstance(value, dict):
            raise ValueError(f"{file}: {key} must be a table, got {value!r}.")
    targets = words(file, "weapon.targets", table.pop("targets", None), frozenset({"ground", "air"}))
    bonus = table.pop("bonus", {})
    words(file, "weapon.bonus", list(bonus), ATTRIBUTES)
    more = tuple((name, number(file, f"weapon.bonus.{name}", value)) for name, value in bonus.items())
    close, line = table.pop("close", None), table.pop("line", None)
    return numbers_of(
        Weapon, file, "weapon", table, {"damage", "range", "period", "hits"},
        targets=targets,
        bonus=more,
        close=None if close is None else numbers_of(CloseWeapon, file, "weapon.close", close, {"range"}),
        line=None if line is None else numbers_of(Line, file, "weapon.line", line, {"half_length", "width"}),
    )  # fmt: skip
