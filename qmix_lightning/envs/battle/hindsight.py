"""Battles seen again: from what was recorded of their units to what the agents saw."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.battle.compiling import SOURCES, kernel, subroutine
from qmix_lightning.envs.battle.observation import look
from qmix_lightning.envs.battle.orders import NO_OP
from qmix_lightning.functional.memory import BatchMemory
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, NO_ACTION, OBSERVATION, STATE, UNITS, TaskSpec

Key = str | tuple[str, ...]


class Recording(NamedTuple):
    """Recorded battles, and what was seen in them: tensors, or for compiled code arrays of the same memory."""

    units: Any  # [b, L + 1, U, F] float32
    actions: Any  # [b, L + 1, N] int64
    played: Any  # [b, L + 1, 1] bool
    no_action: Any  # [N] int64, what was done before the first step
    observation: Any  # [b, L + 1, N, O] float32, to be written
    action_mask: Any  # [b, L + 1, N, A] bool, to be written
    state: Any  # [b, L + 1, S] float32, to be written


See = Callable[[Recording], None]


def look_back(
    episodes: TensorDict,
    spec: TaskSpec,
    n_units: int,
    fields: int,
    device: torch.device,
    see: See,
    memory: BatchMemory,
) -> TensorDict:
    """Add to recorded battles what was seen in them; see :class:`~qmix_lightning.envs.base.AbstractEnvironment`.

    Args:
        episodes: ``[b, L + 1]``, each from its first step, with units, actions and mask.
        spec: The battles' sizes.
        n_units: Number U of units in a battle.
        fields: Number F of fields that were recorded of a unit.
        device: Where is computed what was seen.
        see: Writes what was seen into a recording there.
        memory: What it is written to.

    Returns:
        A shallow copy, with observations, action masks and state, on the device of the units.

    Raises:
        ValueError: If units, actions or mask are not there, or of another type or shape.
    """
    units = _read(episodes, UNITS, torch.float32, (n_units, fields))
    actions = _read(episodes, ACTION, torch.int64, (spec.n_agents,))
    played = _read(episodes, MASK, torch.bool, (1,))
    agents = spec.n_agents

    def room(key: Key, dtype: torch.dtype, *sizes: int) -> Tensor:
        most = len(units) * (spec.episode_limit + 1) * prod(sizes) * dtype.itemsize
        return memory.take(key, (*units.shape[:2], *sizes), dtype, most=most, device=device)

    recording = Recording(
        units.to(device),
        actions.to(device),
        played.to(device),
        no_action=torch.full((agents,), NO_ACTION, device=device),
        observation=room(OBSERVATION, torch.float32, agents, spec.observation_size),
        action_mask=room(ACTION_MASK, torch.bool, agents, spec.n_actions),
        state=room(STATE, torch.float32, spec.state_size),
    )
    see(recording)
    views = {OBSERVATION: recording.observation, ACTION_MASK: recording.action_mask, STATE: recording.state}
    return episodes.copy().update({key: view.to(units.device) for key, view in views.items()})


def _read(episodes: TensorDict, key: Key, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    entry, steps = episodes.get(key, None), episodes.shape
    if entry is None or len(steps) != 2 or entry.dtype != dtype or entry.shape != (*steps, *shape):
        came = "none" if entry is None else f"{entry.dtype} {list(entry.shape)}"
        raise ValueError(
            f"Expected {key!r} of {dtype} [b, L + 1, {', '.join(map(str, shape))}] in episodes [b, L + 1], got {came} "
            f"in {list(steps)}. Observe episodes that were recorded in battles on the same map."
        )
    read: Tensor = entry.contiguous()  # another memory layout would be compiled anew
    return read


@kernel
def see_again(recording: Any, battle: Any, shown: Any, world: Any, first: int, end: int, _: int = SOURCES) -> None:
    """Write what was seen in the episodes from ``first`` up to ``end``, with the memory of one ``battle``.

    ``shown`` is the part of that memory that the units are recordings of.
    """
    for b in range(first, end):
        for t in range(recording.units.shape[1]):
            see_step(recording, battle, shown, world, b, t)


@subroutine
def see_step(recording: Any, battle: Any, shown: Any, world: Any, b: int, t: int) -> None:
    """Write what was seen in episode ``b`` before step ``t``."""
    observation, action_mask, state = recording.observation[b, t], recording.action_mask[b, t], recording.state[b, t]
    if t > 0 and not recording.played[b, t - 1, 0]:  # the battle had ended before
        observation[:] = 0.0
        action_mask[:] = False
        action_mask[:, NO_OP] = True
        state[:] = 0.0
        return
    units = recording.units[b, t]
    for i in range(units.shape[0]):
        for field in range(units.shape[1]):
            shown[i, field] = units[i, field]
        battle[i].kind = int(battle[i].type)  # 0 where it is not recorded
    last_action = recording.actions[b, t - 1] if t > 0 else recording.no_action
    look(battle, world, t / world.rules.limit, observation, action_mask, state, last_action)
