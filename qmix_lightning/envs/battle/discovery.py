"""Who knows of which enemy, in SMACv2: the first agent to see it, and of the others as chance will have it."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.orders import in_cone
from qmix_lightning.envs.battle.state import NOBODY, chance_of, distance, throw


@subroutine
def discover(units: Any, world: Any, clock: Any) -> None:
    """Let the living agents look around one after the other, in random order, as SMACv2 does at every observation.

    The first one to see an enemy knows of it, and each other one with the chance ``prob_obs_enemy``, drawn then and for
    good. What an agent knows when its turn comes is what it is shown (``known_by``), not what is known in the end.
    """
    n_agents, had_turns = world.rules.n_agents, 0  # bits of those who had their turn
    for enemy in range(n_agents, n_agents + world.rules.n_enemies):
        units[enemy].known_by = 0
    turns = clock.dice
    throw(clock, n_agents)  # it is decided first who looks when
    for place in range(n_agents):
        agent = nth_of_others(had_turns, int((n_agents - place) * chance_of(turns, place)))
        had_turns |= 1 << agent
        if units[agent].health > 0:
            _look_around(units, world, clock, agent)


@inlined
def nth_of_others(bits: int, nth: int) -> int:
    """The ``nth`` of the numbers 0, 1, … that are not among ``bits``."""
    number = 0
    while (bits >> number) & 1 or nth > 0:
        nth -= 1 - ((bits >> number) & 1)
        number += 1
    return number


@subroutine
def forget(units: Any, world: Any) -> None:
    """Forget the enemies that are dead, and those that dead agents saw first, as SMACv2 does after every step.

    Whoever sees where they are, or where the dead were seen last, finds them anew; while nobody does, they hide those
    with smaller numbers.
    """
    for enemy in range(world.rules.n_agents, world.rules.n_agents + world.rules.n_enemies):
        finder = units[enemy].finder
        if units[enemy].health <= 0 or (finder != NOBODY and units[finder].health <= 0):
            units[enemy].known, units[enemy].finder = 0, NOBODY
        if units[enemy].health <= 0:
            units[enemy].x, units[enemy].y = units[enemy].x_before, units[enemy].y_before


@subroutine
def _look_around(units: Any, world: Any, clock: Any, agent: int) -> None:
    sight = world.types[units[agent].kind].sight_range
    for enemy in range(world.rules.n_agents, world.rules.n_agents + world.rules.n_enemies):
        if units[enemy].finder == NOBODY:
            if world.rules.conic_fov:
                sees = in_cone(units, world, agent, enemy, sight)
            else:
                sees = distance(units, agent, enemy) < sight
            if sees:
                known = 1 << agent
                for other in range(world.rules.n_agents):
                    if other != agent and throw(clock, 1) < world.rules.prob_obs_enemy:
                        known |= 1 << other
                units[enemy].known, units[enemy].finder = known, agent
        if (units[enemy].known >> agent) & 1:
            units[enemy].known_by = np.float32(int(units[enemy].known_by) | (1 << agent))
