"""The memory of what a learner reads of a batch of battles, and how large each part of it is."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.compiling import shared
from qmix_lightning.envs.battle.state import SEEN
from qmix_lightning.envs.battle.world import World

MOVE_FEATURES: Final = 4
"""Whether one can go north, south, east, west."""

PATHING_FEATURES, HEIGHT_FEATURES = 8, 9
"""Places around an agent of which it sees whether one can walk there, and how high they are; the last is its own."""


class Views(NamedTuple):
    """What a learner reads of B battles."""

    observation: NDArray[np.float32]  # [B, N, O]
    action_mask: NDArray[np.bool_]  # [B, N, A]
    state: NDArray[np.float32]  # [B, S]
    units: NDArray[np.float32]  # [B, U, F], the snapshot from which these three can be made again
    last_action: NDArray[np.int64]  # [B, N], -1 before the first
    reward: NDArray[np.float32]  # [B, 1]
    done: NDArray[np.bool_]  # [B, 1]
    terminated: NDArray[np.bool_]  # [B, 1]
    battle_won: NDArray[np.bool_]  # [B, 1]
    dead_allies: NDArray[np.float32]  # [B, 1]
    dead_enemies: NDArray[np.float32]  # [B, 1]


def empty_views(world: World, num_envs: int) -> Views:
    """Memory for the views of ``num_envs`` battles."""
    agents, actions = world.rules.n_agents, world.rules.n_actions
    units = agents + world.rules.n_enemies
    return Views(
        observation=np.zeros((num_envs, agents, observation_size(world)), dtype=np.float32),
        action_mask=np.zeros((num_envs, agents, actions), dtype=np.bool_),
        state=np.zeros((num_envs, state_size(world)), dtype=np.float32),
        units=np.zeros((num_envs, units, fields_shown(world)), dtype=np.float32),
        last_action=np.full((num_envs, agents), -1, dtype=np.int64),
        reward=np.zeros((num_envs, 1), dtype=np.float32),
        done=np.zeros((num_envs, 1), dtype=np.bool_),
        terminated=np.zeros((num_envs, 1), dtype=np.bool_),
        battle_won=np.zeros((num_envs, 1), dtype=np.bool_),
        dead_allies=np.zeros((num_envs, 1), dtype=np.float32),
        dead_enemies=np.zeros((num_envs, 1), dtype=np.float32),
    )


def fields_shown(world: World) -> int:
    """How many of the :data:`~qmix_lightning.envs.battle.state.SEEN` fields tell what is seen in these battles."""
    alike = len(world.types) == 1 and not world.types["shield"].any() and not world.types["energy"].any()
    return len(SEEN) if world.rules.version == 2 else SEEN.index("cooldown" if alike else "type") + 1


def observation_size(world: World) -> int:
    """Length of one agent's observation: *moves | enemies | allies | own*, and the time if that is shown.

    With the time SMAC leaves one number of *own* at zero, too.
    """
    options = world.rules
    others = (world.rules.n_agents - 1) * ally_features(world) + world.rules.n_enemies * enemy_features(world)
    timestep = options.obs_timestep_number * (2 if world.rules.version == 1 else 1)
    return int(move_features(world) + others + own_features(world) + timestep)


def state_size(world: World) -> int:
    """Length of the global state: *allies | enemies | last actions*, and the time if that is shown."""
    if world.rules.obs_instead_of_state:
        return int(world.rules.n_agents) * observation_size(world)
    teams = world.rules.n_agents * ally_state_features(world) + world.rules.n_enemies * enemy_state_features(world)
    actions = world.rules.n_agents * world.rules.n_actions * world.rules.state_last_action
    return int(teams + actions + world.rules.state_timestep_number)


@shared
def move_features(world: Any) -> int:
    """Numbers that say where an agent can go and how the ground around it is."""
    options = world.rules
    return int(
        MOVE_FEATURES + options.obs_pathing_grid * PATHING_FEATURES + options.obs_terrain_height * HEIGHT_FEATURES
    )


@shared
def enemy_features(world: Any) -> int:
    """Numbers that an agent sees of an enemy: attackable, distance, x, y, [health, [shield]], type."""
    return int(4 + world.rules.obs_all_health * (1 + world.rules.enemy_shields) + world.rules.type_bits)


@shared
def ally_features(world: Any) -> int:
    """Numbers that an agent sees of another: visible, distance, x, y, [health, [shield]], type, [last action]."""
    health = world.rules.obs_all_health * (1 + world.rules.ally_shields)
    return int(4 + health + world.rules.type_bits + world.rules.obs_last_action * world.rules.n_actions)


@shared
def own_features(world: Any) -> int:
    """Numbers that an agent sees of itself: [health, [shield]], [x, y], [where it looks], type."""
    options = world.rules
    health = options.obs_own_health * (1 + world.rules.ally_shields)
    return int(health + 2 * options.obs_own_pos + 2 * options.conic_fov + world.rules.type_bits)


@shared
def ally_state_features(world: Any) -> int:
    """Numbers of an agent in the state: health, cooldown or energy, x, y, [shield], [where it looks], type."""
    return int(4 + world.rules.ally_shields + 2 * world.rules.conic_fov + world.rules.type_bits)


@shared
def enemy_state_features(world: Any) -> int:
    """Numbers of an enemy in the state: health, x, y, [shield], type."""
    return int(3 + world.rules.enemy_shields + world.rules.type_bits)
