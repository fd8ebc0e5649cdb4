"""How battles end that nobody learns from: outcomes only, so that thousands of long ones need no memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.spec import ACTION_MASK, NO_ACTION, OBSERVATION, Policy


class Outcomes(NamedTuple):
    """How each of B episodes ended."""

    won: Tensor  # [B] bool
    returns: Tensor  # [B] float32
    length: Tensor  # [B] int64, steps


def score(env: AbstractEnvironment, policy: Policy) -> Outcomes:
    """Play every battle of an environment once, greedily.

    Args:
        env: The battles; those that end earlier than others go on unrecorded.
        policy: Who decides.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> class Ones:
        ...     def initial_memory(self, battles):
        ...         return torch.zeros(battles, 2, 0)
        ...     def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        ...         return torch.ones_like(last_action), memory
        >>> score(TwoStepGame(num_envs=3), Ones()).returns
        tensor([8., 8., 8.])
    """
    view, battles = env.reset(), env.num_envs
    memory = policy.initial_memory(battles)
    last_action = torch.full(view[ACTION_MASK].shape[:2], NO_ACTION)
    going, won = torch.ones(battles, dtype=torch.bool), torch.zeros(battles, dtype=torch.bool)
    returns, length = torch.zeros(battles), torch.zeros(battles, dtype=torch.int64)
    while going.any():
        last_action, memory = policy.act(view[OBSERVATION], view[ACTION_MASK], last_action, memory)
        outcome = env.step(last_action)
        returns += outcome["reward"][:, 0] * going
        length += going
        if "battle_won" in env.info_keys:
            won |= outcome["info", "battle_won"][:, 0] & going
        ended = outcome["done"][:, 0].clone()
        going &= ~ended
        if ended.any():
            view = env.reset(ended)
            memory = torch.where(ended[:, None, None], policy.initial_memory(1), memory)
            last_action = last_action.masked_fill(ended[:, None], NO_ACTION)
        else:
            view = outcome
    return Outcomes(won, returns, length)
