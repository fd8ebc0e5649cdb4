"""What SMAC shows of a battle: each agent's observation and legal actions, and the global state.

Layouts and divisors are those of ``StarCraft2Env`` (oxwhirl/smac and oxwhirl/smacv2, ``get_obs_agent``,
``get_avail_agent_actions``, ``get_state_dict``) with any of its options; see :mod:`qmix_lightning.envs.battle.views`
for the parts. Sight and shooting range are SMAC's own and measured between centres.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import SOURCES, inlined, kernel, subroutine
from qmix_lightning.envs.battle.orders import (
    EAST,
    FIRST_LOOK,
    NO_OP,
    NORTH,
    SOUTH,
    STOP,
    WEST,
    can_move,
    can_target,
    in_cone,
    in_range,
    target_of,
)
from qmix_lightning.envs.battle.state import distance, kind_of
from qmix_lightning.envs.battle.terrain import BLOCKED
from qmix_lightning.envs.battle.views import (
    HEIGHT_FEATURES,
    PATHING_FEATURES,
    ally_features,
    ally_state_features,
    enemy_features,
    enemy_state_features,
    move_features,
)

AROUND_X = (0.0, 0.0, 2.0, -2.0, 1.0, -1.0, 1.0, -1.0, 0.0)
AROUND_Y = (2.0, -2.0, 0.0, 0.0, 1.0, -1.0, -1.0, 1.0, 0.0)
"""Places around an agent whose ground it may see, in ``move_amount``."""


@kernel
def show(battles: Any, world: Any, clocks: Any, views: Any, first: int, end: int, _: int = SOURCES) -> None:
    """Write what is seen of the battles from ``first`` up to ``end`` as they stand."""
    for b in range(first, end):
        observe(battles[b], world, clocks[b], views, b)


@inlined
def observe(units: Any, world: Any, clock: Any, views: Any, b: int) -> None:
    """Write every view of battle ``b``, whose units are given, that does not depend on the step just played."""
    time = clock.steps / world.rules.limit
    look(units, world, time, views.observation[b], views.action_mask[b], views.state[b], views.last_action[b])
    _snapshot(units, views.units[b])


@inlined
def _snapshot(units: Any, shown: Any) -> None:
    """Write as many of the :data:`~qmix_lightning.envs.battle.state.SEEN` fields of each unit as there is room for."""
    n_fields = shown.shape[1]
    for i in range(units.shape[0]):
        shown[i, 0], shown[i, 1] = units[i].x, units[i].y
        shown[i, 2], shown[i, 3] = units[i].health, units[i].cooldown
        if n_fields > 4:
            shown[i, 4], shown[i, 5], shown[i, 6] = units[i].shield, units[i].energy, units[i].type
        if n_fields > 7:
            shown[i, 7], shown[i, 8] = units[i].known_by, units[i].facing


@subroutine
def look(units: Any, world: Any, time: float, observation: Any, action_mask: Any, state: Any, last_action: Any) -> None:
    """Write one battle's ``observation`` ``[N, O]``, ``action_mask`` ``[N, A]`` and ``state`` ``[S]``.

    Of the units only their kinds and what is :data:`~qmix_lightning.envs.battle.state.SEEN` of them are read. ``time``
    is the part of the episode limit that has passed.
    """
    n_agents = world.rules.n_agents
    for agent in range(n_agents):
        _observe_agent(units, world, time, observation[agent], action_mask[agent], last_action, agent)
    if not world.rules.obs_instead_of_state:
        _observe_all(units, world, time, state, last_action)
        return
    size = observation.shape[1]
    for agent in range(n_agents):
        for at in range(size):
            state[agent * size + at] = observation[agent, at]


@inlined
def _observe_agent(units: Any, world: Any, time: float, sees: Any, may: Any, last_action: Any, agent: int) -> None:
    options = world.rules
    sees[:] = 0.0
    may[:] = False
    if options.obs_timestep_number:
        sees[sees.shape[0] - 1] = time
    if units[agent].health <= 0:
        may[NO_OP] = True
        return
    may[STOP] = True
    for action in (NORTH, SOUTH, EAST, WEST):
        may[action] = can_move(units, world, agent, action)
        sees[action - NORTH] = may[action]
    for action in range(FIRST_LOOK, world.rules.first_attack):
        may[action] = True
    if options.obs_pathing_grid or options.obs_terrain_height:
        _see_ground(units, world, sees, agent)
    sight = world.types[kind_of(units, world, agent)].sight_range
    at = _see_enemies(units, world, sees, may, agent, sight, move_features(world))
    at = _see_allies(units, world, sees, last_action, agent, sight, at)
    _see_itself(units, world, sees, agent, at)


@inlined
def _see_ground(units: Any, world: Any, sees: Any, agent: int) -> None:
    """Write which places around an agent can be walked on, and how high they are; 1 beyond the map."""
    x, y, at = int(units[agent].x), int(units[agent].y), 4
    for what in range(2):
        if not (world.rules.obs_pathing_grid if what == 0 else world.rules.obs_terrain_height):
            continue
        for place in range(PATHING_FEATURES if what == 0 else HEIGHT_FEATURES):
            column = x + int(AROUND_X[place] * world.rules.move_amount)
            row = y + int(AROUND_Y[place] * world.rules.move_amount)
            if not (0 <= column < world.ground.shape[0] and 0 <= row < world.ground.shape[1]):
                sees[at] = 1.0
            else:
                sees[at] = world.ground[column, row] != BLOCKED if what == 0 else world.heights[column, row]
            at += 1


@inlined
def _see_enemies(units: Any, world: Any, sees: Any, may: Any, agent: int, sight: float, begin: int) -> int:
    """Write what an agent sees of the enemies, and whom it may attack or heal."""
    options, at, width = world.rules, begin, enemy_features(world)
    for slot in range(may.shape[0] - world.rules.first_attack):
        if can_target(units, world, agent, slot):
            target = target_of(units, world, agent, slot)
            may[world.rules.first_attack + slot] = not options.action_mask or in_range(units, world, agent, target)
    for slot in range(world.rules.n_enemies):
        enemy = world.rules.n_agents + slot
        known = world.rules.version == 1 or (int(units[enemy].known_by) >> agent) & 1
        if units[enemy].health > 0 and (known or options.fully_observable):
            far = distance(units, agent, enemy)
            visible = in_cone(units, world, agent, enemy, sight) if options.conic_fov else far < sight
            if (visible and known) or options.fully_observable:
                attackable = may[world.rules.first_attack + slot]
                if not options.action_mask:
                    attackable = attackable and in_range(units, world, agent, target_of(units, world, agent, slot))
                place = _describe(
                    units, world, sees, at, agent, enemy, far, sight, attackable, world.rules.enemy_shields
                )
                if world.rules.type_bits > 0:
                    sees[place + int(world.types[kind_of(units, world, enemy)].enemy_bit)] = 1.0
        at += width
        if not known:  # SMACv2 then forgets all enemies that it has written down so far
            sees[begin:at] = 0.0
    return int(at)


@inlined
def _see_allies(units: Any, world: Any, sees: Any, last_action: Any, agent: int, sight: float, begin: int) -> int:
    """Write what an agent sees of the others."""
    options, at, width = world.rules, begin, ally_features(world)
    for ally in range(world.rules.n_agents):
        if ally == agent:
            continue
        if units[ally].health > 0:
            far = distance(units, agent, ally)
            visible = in_cone(units, world, agent, ally, sight) if options.conic_fov else far < sight
            if visible or options.fully_observable:
                place = _describe(units, world, sees, at, agent, ally, far, sight, True, world.rules.ally_shields)
                if world.rules.type_bits > 0:
                    sees[place + int(world.types[kind_of(units, world, ally)].ally_bit)] = 1.0
                if options.obs_last_action and last_action[ally] >= 0:
                    sees[place + world.rules.type_bits + last_action[ally]] = 1.0
        at += width
    return int(at)


@inlined
def _describe(
    units: Any, world: Any, sees: Any, at: int, i: int, j: int, far: float, sight: float, flag: bool, shields: int
) -> int:
    """Write what unit ``i`` sees of unit ``j``: a flag, where it is, and its strength; tell where that ends."""
    sees[at] = flag
    sees[at + 1] = far / sight
    sees[at + 2] = (np.float64(units[j].x) - np.float64(units[i].x)) / sight
    sees[at + 3] = (np.float64(units[j].y) - np.float64(units[i].y)) / sight
    if not world.rules.obs_all_health:
        return at + 4
    sees[at + 4] = units[j].health / world.types[kind_of(units, world, j)].health
    if shields == 0:
        return at + 5
    sees[at + 5] = _shield(units, world, j)
    return at + 6


@inlined
def _shield(units: Any, world: Any, i: int) -> float:
    full = world.types[kind_of(units, world, i)].shield
    return float(units[i].shield / full) if full > 0 else 0.0


@inlined
def _see_itself(units: Any, world: Any, sees: Any, agent: int, at: int) -> None:
    """Write what an agent sees of itself."""
    options, unit_type = world.rules, world.types[kind_of(units, world, agent)]
    if options.obs_own_health:
        sees[at] = units[agent].health / unit_type.health
        at += 1
        if world.rules.ally_shields:
            sees[at] = _shield(units, world, agent)
            at += 1
    if options.obs_own_pos:
        sees[at] = np.float64(units[agent].x) / float(world.ground.shape[0])
        sees[at + 1] = np.float64(units[agent].y) / float(world.ground.shape[1])
        at += 2
    if options.conic_fov:
        sees[at] = world.directions[int(units[agent].facing), 0]
        sees[at + 1] = world.directions[int(units[agent].facing), 1]
        at += 2
    if world.rules.type_bits > 0:
        sees[at + int(unit_type.ally_bit)] = 1.0


@inlined
def _observe_all(units: Any, world: Any, time: float, state: Any, last_action: Any) -> None:
    """Write the global state."""
    state[:] = 0.0
    at, options = 0, world.rules
    for i in range(units.shape[0]):
        is_agent = i < world.rules.n_agents
        width = ally_state_features(world) if is_agent else enemy_state_features(world)
        if units[i].health > 0:
            _place(units, world, state, at, i, is_agent, width)
        at += width
    if options.state_last_action:
        for agent in range(world.rules.n_agents):
            if last_action[agent] >= 0:
                state[at + last_action[agent]] = 1.0
            at += world.rules.n_actions
    if options.state_timestep_number:
        state[at] = time


@inlined
def _place(units: Any, world: Any, state: Any, at: int, i: int, is_agent: bool, size: int) -> None:
    """Write living unit ``i`` into the state."""
    unit_type = world.types[kind_of(units, world, i)]
    width, height = float(world.ground.shape[0]), float(world.ground.shape[1])
    state[at] = units[i].health / unit_type.health
    place = at + 1
    if is_agent:
        what = units[i].energy if unit_type.heal_rate > 0 else units[i].cooldown
        state[place] = what / unit_type.cooldown_scale
        place += 1
    state[place] = (np.float64(units[i].x) - width / 2) / width
    state[place + 1] = (np.float64(units[i].y) - height / 2) / height
    place += 2
    if world.rules.ally_shields if is_agent else world.rules.enemy_shields:
        state[place] = _shield(units, world, i)
        place += 1
    if is_agent and world.rules.conic_fov:
        state[place] = world.directions[int(units[i].facing), 0]
        state[place + 1] = world.directions[int(units[i].facing), 1]
    if world.rules.type_bits > 0:
        bit = unit_type.ally_bit if is_agent else unit_type.enemy_bit
        state[at + size - world.rules.type_bits + int(bit)] = 1.0
