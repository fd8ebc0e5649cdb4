"""Battles on film: played by a policy, and every game loop of them recorded."""

from __future__ import annotations

import numpy as np
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.viewer.recording import Outcome, Recording, kinds_of, shown
from qmix_lightning.spec import ACTION_MASK, NO_ACTION, OBSERVATION, Policy


@torch.no_grad()
def film(env: BattleEnvironment, policy: Policy, team: str = "agents") -> Recording:
    """Play the next battle of an environment greedily, and record it.

    Args:
        env: One battle. It goes through the same states as if it had been played without a record.
        policy: Who plays; on whatever device.
        team: What to call whoever plays.

    Returns:
        The battle, loop by loop.

    Raises:
        ValueError: If the environment has more than one battle.

    Example:
        >>> class Nobody:
        ...     def initial_memory(self, battles):
        ...         return torch.zeros(battles, 3, 0)
        ...     def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        ...         return action_mask.int().argmax(-1), memory
        >>> battle = film(BattleEnvironment("3m", seed=1), Nobody())
        >>> battle.outcome, battle.frames.shape == (8 * battle.steps + 1, 6)
        ('lost', True)
    """
    if env.num_envs != 1:
        raise ValueError(f"Expected an environment of one battle to film, got one of {env.num_envs}. Make another.")
    view = env.reset()
    memory = policy.initial_memory(1)
    here, there = view[OBSERVATION].device, memory.device
    last_action = torch.full(view[ACTION_MASK].shape[:-1], NO_ACTION, device=there)
    frames, rewards = [shown(env.units[0])[None]], []
    while True:
        observation, action_mask = view[OBSERVATION].to(there), view[ACTION_MASK].to(there)
        last_action, memory = policy.act(observation, action_mask, last_action, memory)
        action = last_action.to(here)
        frames.append(shown(env.trace(action)[:, 0]))
        view = env.step(action)
        rewards.append(view["reward"].item())
        if view["done"].item():
            break
    won, decided = view["info", "battle_won"].item(), view["terminated"].item()
    outcome: Outcome = "won" if won else "lost" if decided else "out of time"
    return Recording(
        title=env.spec.name.partition("/")[2],
        team=team,
        kinds=kinds_of(env.scenario),
        n_agents=env.spec.n_agents,
        walkable=np.array(env.scenario.walkable, dtype=np.bool_).T,
        frames=np.concatenate(frames),
        rewards=np.array(rewards, dtype=np.float32),
        outcome=outcome,
        step_loops=int(env.world.rules.step_mul),
    )
