"""Battles seen again: from what was recorded of their units to what the agents saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from qmix_lightning.envs.battle.compiling import SOURCES, kernel
from qmix_lightning.envs.battle.observation import look
from qmix_lightning.envs.battle.orders import NO_OP
from qmix_lightning.envs.battle.state import UNIT, seen
from qmix_lightning.envs.battle.world import World
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, NO_ACTION, OBSERVATION, STATE, UNITS, TaskSpec

Key = str | tuple[str, ...]
Spread = Callable[[Callable[[int, int], Any], int], None]


def look_back(episodes: TensorDict, spec: TaskSpec, world: World, fields: int, spread: Spread) -> TensorDict:
    """Add to recorded battles what was seen in them; see :class:`~qmix_lightning.envs.base.AbstractEnvironment`.

    Args:
        episodes: ``[b, L + 1]``, each from its first step, with units, actions and mask.
        spec: The battles' sizes.
        world: What these battles have in common.
        fields: Number F of fields that were recorded of a unit.
        spread: Spreads work over as many episodes as it is told.

    Returns:
        A shallow copy, with observations, action masks and state, on the device of the units.

    Raises:
        ValueError: If units, actions or mask are not there, or of another type or shape.
    """
    n_units = world.rules.n_agents + world.rules.n_enemies
    units = _read(episodes, UNITS, torch.float32, (n_units, fields))
    actions = _read(episodes, ACTION, torch.int64, (spec.n_agents,))
    played = _read(episodes, MASK, torch.bool, (1,))
    no_action = np.full(spec.n_agents, NO_ACTION, dtype=np.int64)
    shape, agents = units.shape[:2], spec.n_agents
    observation = np.empty((*shape, agents, spec.observation_size), dtype=np.float32)
    action_mask = np.empty((*shape, agents, spec.n_actions), dtype=np.bool_)
    state = np.empty((*shape, spec.state_size), dtype=np.float32)

    def work(first: int, end: int) -> None:
        battle = np.zeros(n_units, dtype=UNIT)  # one for each thread
        see_again(
            units, actions, played, no_action, battle, seen(battle, fields), world,
            observation, action_mask, state, first, end,
        )  # fmt: skip

    spread(work, len(units))
    views, there = {OBSERVATION: observation, ACTION_MASK: action_mask, STATE: state}, episodes[UNITS].device
    return episodes.copy().update({key: torch.from_numpy(view).to(there) for key, view in views.items()})


def _read(episodes: TensorDict, key: Key, dtype: torch.dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    entry, steps = episodes.get(key, None), episodes.shape
    if entry is None or len(steps) != 2 or entry.dtype != dtype or entry.shape != (*steps, *shape):
        came = "none" if entry is None else f"{entry.dtype} {list(entry.shape)}"
        raise ValueError(
            f"Expected {key!r} of {dtype} [b, L + 1, {', '.join(map(str, shape))}] in episodes [b, L + 1], got {came} "
            f"in {list(steps)}. Observe episodes that were recorded in battles on the same map."
        )
    return np.ascontiguousarray(entry.cpu().numpy())  # another memory layout would be compiled anew


@kernel
def see_again(
    units: Any, actions: Any, played: Any, no_action: Any, battle: Any, shown: Any, world: Any,
    observation: Any, action_mask: Any, state: Any, first: int, end: int, _: int = SOURCES,
) -> None:  # fmt: skip
    """Write what was seen in the episodes from ``first`` up to ``end``, with the memory of one ``battle``.

    ``shown`` is the part of that memory that ``units`` are recordings of.
    """
    n_steps, n_units, n_fields = units.shape[1:]
    for b in range(first, end):
        for t in range(n_steps):
            if t > 0 and not played[b, t - 1, 0]:  # the battle had ended before
                observation[b, t] = 0.0
                action_mask[b, t] = False
                action_mask[b, t, :, NO_OP] = True
                state[b, t] = 0.0
                continue
            for i in range(n_units):
                for field in range(n_fields):
                    shown[i, field] = units[b, t, i, field]
                battle[i].kind = int(battle[i].type)  # 0 where it is not recorded
            last_action = actions[b, t - 1] if t > 0 else no_action
            look(battle, world, t / world.rules.limit, observation[b, t], action_mask[b, t], state[b, t], last_action)
