"""Who knows of which enemy, in SMACv2: the first agent to see it, and of the others as chance will have it."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import subroutine
from qmix_lightning.envs.battle.orders import in_cone
from qmix_lightning.envs.battle.state import distance, uniform


@subroutine
def discover(units: Any, world: Any, clock: Any) -> None:
    """Let the living agents look around one after the other, in random order, as SMACv2 does at every observation.

    The first one to see an enemy knows of it, and each other one with the chance ``prob_obs_enemy``, drawn then and for
    good. What an agent knows when its turn comes is what it is shown (``known_by``), not what is known in the end.
    """
    n_agents, everybody = world.rules.n_agents, 0
    for enemy in range(n_agents, n_agents + world.rules.n_enemies):
        units[enemy].known_by = 0
    left = n_agents
    while left > 0:
        nth = int(uniform(clock, 0.0, float(left)))  # of those who did not have their turn
        agent = 0
        while (everybody >> agent) & 1 or nth > 0:
            if not (everybody >> agent) & 1:
                nth -= 1
            agent += 1
        everybody |= 1 << agent
        left -= 1
        if units[agent].health > 0:
            _look_around(units, world, clock, agent)


@subroutine
def _look_around(units: Any, world: Any, clock: Any, agent: int) -> None:
    sight = world.types[units[agent].kind].sight_range
    for enemy in range(world.rules.n_agents, world.rules.n_agents + world.rules.n_enemies):
        if units[enemy].known == 0:
            if world.rules.conic_fov:
                sees = in_cone(units, world, agent, enemy, sight)
            else:
                sees = distance(units, agent, enemy) < sight
            if sees:
                known = 1 << agent
                for other in range(world.rules.n_agents):
                    if other != agent and uniform(clock, 0.0, 1.0) < world.rules.prob_obs_enemy:
                        known |= 1 << other
                units[enemy].known = known
        if (units[enemy].known >> agent) & 1:
            units[enemy].known_by = np.float32(int(units[enemy].known_by) | (1 << agent))
