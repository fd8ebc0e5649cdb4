"""What SMAC shows of a battle: each agent's observation and legal actions, and the global state.

Layouts and divisors are those of ``StarCraft2Env`` with its default options (oxwhirl/smac, ``get_obs_agent``,
``get_avail_agent_actions``, ``get_state_dict``): an observation is *moves | enemies | allies | own*, the state is
*allies | enemies | last actions*. Sight and shooting range are SMAC's constants and measured between centres.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import SOURCES, inlined, kernel, subroutine
from qmix_lightning.envs.battle.orders import EAST, FIRST_ATTACK, NO_OP, NORTH, SHOOT_RANGE, SOUTH, STOP, WEST, can_move
from qmix_lightning.envs.battle.scenario import Scenario
from qmix_lightning.envs.battle.state import distance

SIGHT_RANGE = 9.0
"""Cells between centres within which an agent sees another unit; also the divisor of relative positions."""

MOVE_FEATURES = 4
ENEMY_FEATURES = 5
ALLY_FEATURES = 5
OWN_FEATURES = 1
ALLY_STATE_FEATURES = 4
ENEMY_STATE_FEATURES = 3


class Views(NamedTuple):
    """What a learner reads of B battles."""

    observation: NDArray[np.float32]  # [B, N, O]
    action_mask: NDArray[np.bool_]  # [B, N, A]
    state: NDArray[np.float32]  # [B, S]
    last_action: NDArray[np.int64]  # [B, N], -1 before the first
    reward: NDArray[np.float32]  # [B, 1]
    done: NDArray[np.bool_]  # [B, 1]
    terminated: NDArray[np.bool_]  # [B, 1]
    battle_won: NDArray[np.bool_]  # [B, 1]
    dead_allies: NDArray[np.float32]  # [B, 1]
    dead_enemies: NDArray[np.float32]  # [B, 1]


def n_actions(scenario: Scenario) -> int:
    """Actions of an agent: no-op, stop, four moves, and one attack for each enemy."""
    return FIRST_ATTACK + scenario.n_enemies


def observation_size(scenario: Scenario) -> int:
    """Length of one agent's observation."""
    others = (scenario.n_agents - 1) * ALLY_FEATURES + scenario.n_enemies * ENEMY_FEATURES
    return MOVE_FEATURES + others + OWN_FEATURES


def state_size(scenario: Scenario) -> int:
    """Length of the global state."""
    teams = scenario.n_agents * ALLY_STATE_FEATURES + scenario.n_enemies * ENEMY_STATE_FEATURES
    return teams + scenario.n_agents * n_actions(scenario)


def empty_views(scenario: Scenario, num_envs: int) -> Views:
    """Memory for the views of ``num_envs`` battles."""
    agents, actions = scenario.n_agents, n_actions(scenario)
    return Views(
        observation=np.zeros((num_envs, agents, observation_size(scenario)), dtype=np.float32),
        action_mask=np.zeros((num_envs, agents, actions), dtype=np.bool_),
        state=np.zeros((num_envs, state_size(scenario)), dtype=np.float32),
        last_action=np.full((num_envs, agents), -1, dtype=np.int64),
        reward=np.zeros((num_envs, 1), dtype=np.float32),
        done=np.zeros((num_envs, 1), dtype=np.bool_),
        terminated=np.zeros((num_envs, 1), dtype=np.bool_),
        battle_won=np.zeros((num_envs, 1), dtype=np.bool_),
        dead_allies=np.zeros((num_envs, 1), dtype=np.float32),
        dead_enemies=np.zeros((num_envs, 1), dtype=np.float32),
    )


@kernel
def show(battles: Any, types: Any, ground: Any, views: Any, first: int, end: int, _: int = SOURCES) -> None:
    """Write what is seen of the battles from ``first`` up to ``end`` as they stand."""
    for b in range(first, end):
        observe(battles[b], types, ground, views, b)


@inlined
def observe(units: Any, types: Any, ground: Any, views: Any, b: int) -> None:
    """Write every view of battle ``b``, whose units are given, that does not depend on the step just played."""
    look(units, types, ground, views.observation[b], views.action_mask[b], views.state[b], views.last_action[b])


@subroutine
def look(units: Any, types: Any, ground: Any, observation: Any, action_mask: Any, state: Any, last_action: Any) -> None:
    """Write one battle's ``observation`` ``[N, O]``, ``action_mask`` ``[N, A]`` and ``state`` ``[S]``.

    Of the units only their kinds and what is :data:`~qmix_lightning.envs.battle.state.SEEN` of them are read.
    """
    for agent in range(observation.shape[0]):
        _observe_agent(units, types, ground, observation[agent], action_mask[agent], agent)
    _observe_all(units, types, ground, state, last_action, action_mask.shape[1])


@inlined
def _observe_agent(units: Any, types: Any, ground: Any, sees: Any, may: Any, agent: int) -> None:
    n_enemies = may.shape[0] - FIRST_ATTACK
    n_agents = units.shape[0] - n_enemies
    sees[:] = 0.0
    may[:] = False
    if units[agent].health <= 0:
        may[NO_OP] = True
        return
    may[STOP] = True
    for action in (NORTH, SOUTH, EAST, WEST):
        may[action] = can_move(units, ground, agent, action)
        sees[action - NORTH] = may[action]
    at = MOVE_FEATURES
    for enemy in range(n_agents, n_agents + n_enemies):
        if units[enemy].health > 0:
            far = distance(units, agent, enemy)
            may[FIRST_ATTACK + enemy - n_agents] = far <= SHOOT_RANGE
            if far < SIGHT_RANGE:
                _describe(units, types, sees, at, agent, enemy, far, far <= SHOOT_RANGE)
        at += ENEMY_FEATURES
    for ally in range(n_agents):
        if ally == agent:
            continue
        if units[ally].health > 0:
            far = distance(units, agent, ally)
            if far < SIGHT_RANGE:
                _describe(units, types, sees, at, agent, ally, far, True)
        at += ALLY_FEATURES
    sees[at] = units[agent].health / types[units[agent].kind].health


@inlined
def _describe(units: Any, types: Any, sees: Any, at: int, i: int, j: int, far: float, flag: bool) -> None:
    """Write what unit ``i`` sees of unit ``j``: a flag, where it is, and its health."""
    sees[at] = flag
    sees[at + 1] = far / SIGHT_RANGE
    sees[at + 2] = (np.float64(units[j].x) - np.float64(units[i].x)) / SIGHT_RANGE
    sees[at + 3] = (np.float64(units[j].y) - np.float64(units[i].y)) / SIGHT_RANGE
    sees[at + 4] = units[j].health / types[units[j].kind].health


@inlined
def _observe_all(units: Any, types: Any, ground: Any, state: Any, last_action: Any, n_actions: int) -> None:
    n_agents = last_action.shape[0]
    width, height = float(ground.shape[0]), float(ground.shape[1])
    state[:] = 0.0
    at = 0
    for i in range(units.shape[0]):
        kind, is_agent = units[i].kind, i < n_agents
        if units[i].health > 0:
            state[at] = units[i].health / types[kind].health
            if is_agent:
                state[at + 1] = units[i].cooldown / types[kind].cooldown_scale
            place = at + 1 + is_agent
            state[place] = (np.float64(units[i].x) - width / 2) / width
            state[place + 1] = (np.float64(units[i].y) - height / 2) / height
        at += ALLY_STATE_FEATURES if is_agent else ENEMY_STATE_FEATURES
    for agent in range(n_agents):
        if last_action[agent] >= 0:
            state[at + last_action[agent]] = 1.0
        at += n_actions
