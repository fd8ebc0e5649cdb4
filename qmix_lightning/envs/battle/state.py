"""The memory of a batch of battles: its units, their constants, its clocks and random numbers.

Everything about a unit lies side by side in one record, because compiled scalar code reads a whole unit at a time and
passes one array from function to function. Positions and health are float32, as in the game's own protocol: what is
derived from them in double precision comes out as SMAC computes it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import inlined, kernel, shared

LOOPS_PER_SECOND: Final = 16
"""Game loops in one catalogue second; the speed that the game calls "faster" plays 22.4 of them in a real one."""

IDLE, MOVE, ATTACK, ATTACK_MOVE, HEAL, HUNT, DYING = 0, 1, 2, 3, 4, 5, 6
"""What a unit has been told to do; a hunter attacks the nearest agent, wherever it is, and the dying may burst."""

NOBODY: Final = -1
"""The target of a unit that has none."""

UNIT: Final = np.dtype(
    [
        ("x", np.float32),  # cells to the east
        ("y", np.float32),  # cells to the north
        ("health", np.float32),  # 0 when dead
        ("cooldown", np.float32),  # loops until the weapon is ready
        ("shield", np.float32),
        ("energy", np.float32),
        ("type", np.float32),  # the kind, for those who see records only
        ("known_by", np.float32),  # bits of the agents who knew of it when they looked; SMACv2 only
        ("facing", np.float32),  # number of the direction it looks in; SMACv2 only
        ("health_before", np.float32),  # at the start of the environment step
        ("shield_before", np.float32),
        ("x_before", np.float32),
        ("y_before", np.float32),
        ("wind_up", np.float32),  # loops until the attack under way does its damage, 0 when none is
        ("flight", np.float32),  # loops until its missile, its beam or its second blade arrives, 0 when none does
        ("goal_x", np.float32),  # where the order leads
        ("goal_y", np.float32),
        ("hurt", np.float32),  # damage to the health in this loop, less healing, not yet applied
        ("shield_hurt", np.float32),  # damage to the shield in this loop, not yet applied
        ("pace", np.float32),  # cells a loop that it has come to, where that takes time
        ("target", np.int16),  # unit that is attacked, healed or approached
        ("shooter", np.int16),  # who did damage in this loop
        ("flight_target", np.int16),
        ("calm", np.int16),  # loops since the last damage, as far as that matters
        ("known", np.int32),  # bits of the agents who know of it; SMACv2 only
        ("finder", np.int16),  # agent who saw it first; SMACv2 only
        ("push_x", np.float64),  # displacement that is being worked out
        ("push_y", np.float64),
        ("kind", np.int8),  # index of the type
        ("order", np.int8),
        ("detour", np.int8),  # side on which it passes who is in its way: 1 left, -1 right, 0 while nobody is
        ("look", np.int8),  # loops until it looks for a target again
        ("moving", np.bool_),  # walks in this loop
    ],
    align=True,
)
"""One unit; a battle is an array of them, the agents first."""

SEEN: Final = ("x", "y", "health", "cooldown", "shield", "energy", "type", "known_by", "facing")
"""The fields of a unit that show in observations, masks and state: with the last actions, these follow from them alone.

They are float32 and a :data:`UNIT` begins with them, so that what is recorded can be read back at once. Battles of a
single type without shields need the first four of them, other maps of SMAC seven, and SMACv2 all.
"""

CLOCK: Final = np.dtype(
    [
        ("random", np.uint64),  # state of the random numbers
        ("dice", np.uint64),  # state of those by which agents look about: battles go on alike whatever is seen of them
        ("key", np.uint64),  # from which every episode's random numbers start
        ("episode", np.uint64),  # episodes started
        ("steps", np.int64),  # environment steps played in this episode
        ("best", np.float64),  # reward by which rewards are scaled
    ],
    align=True,
)
"""What a battle as a whole remembers."""


def seen(battles: NDArray[Any], fields: int = len(SEEN)) -> NDArray[np.float32]:
    """What shows of units: the first of their :data:`SEEN` fields, in the same memory.

    Args:
        battles: ``[..., U]`` :data:`UNIT`, contiguous.
        fields: How many.

    Returns:
        ``[..., U, F]``: whoever writes there moves the units.

    Example:
        >>> battle = np.zeros(2, UNIT)
        >>> battle["health"] = 45, 39
        >>> seen(battle, 4).tolist()
        [[0.0, 0.0, 45.0, 0.0], [0.0, 0.0, 39.0, 0.0]]
    """
    return battles.view(np.float32).reshape(*battles.shape, -1)[..., :fields]


@inlined
def mix(value: Any) -> Any:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def start_keys(clocks: Any, seed: Any, first: int) -> None:
    """Give the clocks the keys of the battles ``first``, ``first + 1``, … of a seed."""
    for b in range(clocks.shape[0]):
        clocks[b].key = mix(mix(seed) + np.uint64(first + b + 1) * np.uint64(0x9E3779B97F4A7C15))
        clocks[b].episode = 0


@shared
def start_clock(clock: Any) -> None:
    """Begin the next episode of a battle, with random numbers of its own."""
    clock.random = mix(clock.key + clock.episode * np.uint64(0x9E3779B97F4A7C15))
    clock.dice = mix(clock.random)
    clock.episode += np.uint64(1)
    clock.steps = 0


@shared
def uniform(clock: Any, low: float, high: float) -> float:
    """Draw a battle's next random number from [low, high)."""
    clock.random += np.uint64(0x9E3779B97F4A7C15)
    return float(low + (high - low) * ((mix(clock.random) >> np.uint64(11)) * (1.0 / 9007199254740992.0)))


@inlined
def chance_of(dice: Any, number: int) -> float:
    """What the dice show after ``number`` further throws, in [0, 1)."""
    dice += np.uint64(number) * np.uint64(0x9E3779B97F4A7C15)
    return float((mix(dice) >> np.uint64(11)) * (1.0 / 9007199254740992.0))


@inlined
def throw(clock: Any, times: int) -> float:
    """What the dice of a battle show now; then throw them some times."""
    shown = chance_of(clock.dice, 0)
    clock.dice += np.uint64(times) * np.uint64(0x9E3779B97F4A7C15)
    return shown


@inlined
def distance(units: Any, i: int, j: int) -> float:
    """Distance between the centres of units ``i`` and ``j``, in cells."""
    dx = np.float64(units[j].x) - np.float64(units[i].x)
    dy = np.float64(units[j].y) - np.float64(units[i].y)
    return math.sqrt(dx * dx + dy * dy)


@inlined
def plain(world: Any) -> bool:
    """Whether nothing is to be looked up that soldiers of a single type do not have; known when code is compiled."""
    return world.variety is None


@inlined
def kind_of(units: Any, world: Any, i: int) -> int:
    """Index of the type of unit ``i``."""
    return 0 if plain(world) else units[i].kind


@inlined
def gap(units: Any, world: Any, i: int, j: int) -> float:
    """Distance between the edges of units ``i`` and ``j``, in cells: what a weapon must bridge."""
    radius, other_radius = world.types[kind_of(units, world, i)].radius, world.types[kind_of(units, world, j)].radius
    return float(distance(units, i, j) - radius - other_radius)
