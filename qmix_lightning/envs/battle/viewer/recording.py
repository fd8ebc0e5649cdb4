"""A battle on record: what its units were and did in every game loop, in plain numbers that anybody can draw.

All contact with the engine's own memory of a unit is in :func:`shown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.scenario import Scenario
from qmix_lightning.envs.battle.unit_types import PLANES, UnitType

SHOWN: Final = np.dtype(
    [
        ("x", np.float32),  # cells to the east
        ("y", np.float32),  # cells to the north
        ("health", np.float32),  # 0 when dead
        ("shield", np.float32),
        ("energy", np.float32),
        ("cooldown", np.float32),  # loops until the weapon is ready
        ("wind_up", np.float32),  # loops until the attack under way does its damage, 0 when none is
        ("goal_x", np.float32),  # where the order leads
        ("goal_y", np.float32),
        ("flight", np.float32),  # loops until the missile lands, 0 when none flies
        ("flight_target", np.int16),  # unit that the last attack went to
        ("target", np.int16),  # unit that is attacked, healed or approached
        ("order", np.int8),  # IDLE, MOVE, ATTACK, …
        ("kind", np.int8),  # index among the recording's kinds
    ]
)
"""One unit at one moment, as it is drawn."""

SWUNG: Final = 1.0
"""Cells; a weapon that reaches less far is swung, and its reach is not drawn."""

Outcome = Literal["won", "lost", "out of time"]
Attack = Literal["shot", "blade", "missile", "beams"]


@dataclass(frozen=True)
class Kind:
    """What is drawn of a unit type, in cells.

    Args:
        name: Of the type, e.g. ``"marine"``; tells the shape.
        radius: Of the body.
        range: Of the weapon, from edge to edge; 0 if it has none.
        health: At full strength.
        shield: At full strength, 0 if it has none.
        energy: At most, 0 if it has none.
        level: 0 on the ground, 1 above it, 2 in the air; the higher is drawn over the lower.
        attack: What its attack looks like: a shot that hits at once, a blade, a missile that flies, or two beams that
            sweep a line across the target.
        winds_up: Whether time passes between the start of an attack and its shot.
        sweep: Cells that these reach on either side of the target.
        burst: Cells within which it hurts others when it dies.
    """

    name: str
    radius: float
    range: float
    health: float
    shield: float = 0.0
    energy: float = 0.0
    level: int = 0
    attack: Attack = "shot"
    winds_up: bool = True
    sweep: float = 0.0
    burst: float = 0.0


@dataclass(frozen=True)
class Recording:
    """One battle, from the first sight of it to its end.

    Args:
        title: What is played, e.g. ``"8m"``.
        team: Who plays the agents, e.g. ``"QMIX"``.
        kinds: The types of units that take part.
        n_agents: How many of the units are agents, the first ones.
        walkable: ``[x, y]`` bool, cells that can be walked on.
        frames: ``[F, U]`` :data:`SHOWN`: the units after 0, 1, 2, … game loops.
        rewards: ``[T]`` of each environment step.
        outcome: How it ended.
        step_loops: Game loops in an environment step.

    Raises:
        ValueError: If ``frames`` is of another type or shape, or of another length than ``rewards`` tells.

    Example:
        >>> frames = np.zeros((9, 2), SHOWN)
        >>> frames["health"] = 45
        >>> ground = np.ones((32, 32), dtype=bool)
        >>> Recording("1m", "nobody", (Kind("marine", 0.375, 5, 45),), 1, ground, frames, np.zeros(1), "lost").steps
        1
    """

    title: str
    team: str
    kinds: tuple[Kind, ...]
    n_agents: int
    walkable: NDArray[np.bool_]
    frames: NDArray[Any]
    rewards: NDArray[np.float32]
    outcome: Outcome
    step_loops: int = 8

    def __post_init__(self) -> None:
        expected = 1 + self.step_loops * len(self.rewards)
        if self.frames.dtype != SHOWN or self.frames.ndim != 2 or len(self.frames) != expected:
            raise ValueError(
                f"Expected frames [{expected}, U] of SHOWN, one for the start and {self.step_loops} for each of"
                f" {len(self.rewards)} steps, got {list(self.frames.shape)} of {self.frames.dtype}."
            )

    @property
    def loops(self) -> int:
        """Game loops played."""
        return len(self.frames) - 1

    @property
    def steps(self) -> int:
        """Environment steps played."""
        return len(self.rewards)


def shown(units: NDArray[Any]) -> NDArray[Any]:
    """Take what is drawn from the engine's memory of units.

    Args:
        units: ``[..., U]`` :data:`~qmix_lightning.envs.battle.state.UNIT`.

    Returns:
        ``[..., U]`` :data:`SHOWN`, a copy.

    Example:
        >>> from qmix_lightning.envs.battle.state import UNIT
        >>> battle = np.zeros(2, UNIT)
        >>> battle["health"] = 45, 39
        >>> shown(battle)["health"].tolist()
        [45.0, 39.0]
    """
    copy = np.empty(units.shape, SHOWN)
    for name in SHOWN.names or ():
        copy[name] = units[name]
    return copy


def kinds_of(scenario: Scenario) -> tuple[Kind, ...]:
    """What is drawn of a scenario's unit types, in the order in which the engine counts them.

    Example:
        >>> from qmix_lightning.envs.battle.scenario import load_scenario
        >>> [(kind.name, kind.attack) for kind in kinds_of(load_scenario("1c3s5z"))]
        [('colossus', 'beams'), ('stalker', 'missile'), ('zealot', 'blade')]
    """
    return tuple(_kind(unit) for unit in scenario.unit_types)


def _kind(unit: UnitType) -> Kind:
    weapon, line = unit.weapon, unit.weapon.line if unit.weapon else None
    attack: Attack = "shot"
    if line:
        attack = "beams"
    elif weapon and weapon.range < SWUNG:
        attack = "blade"
    elif weapon and (weapon.missile_speed or weapon.flight):
        attack = "missile"
    return Kind(
        name=unit.name,
        radius=unit.radius,
        range=weapon.range if weapon else 0.0,
        health=unit.health,
        shield=unit.shield,
        energy=unit.heal.energy_limit if unit.heal else 0.0,
        level=PLANES.index(unit.plane),
        attack=attack,
        winds_up=bool(weapon and weapon.wind_up),
        sweep=line.half_length if line else 0.0,
        burst=weapon.burst_radius if weapon else 0.0,
    )
