"""A team of which everybody attacks the enemy that was nearest, until it is dead."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.envs.battle.scripted.base import AbstractScript
from qmix_lightning.envs.battle.scripted.sight import Sight
from qmix_lightning.envs.battle.scripted.walking import go, hurts, to_the_enemy


class ClosestTarget(AbstractScript):
    """Chooses the nearest enemy in sight, walks up to it and attacks it until it is dead or out of sight.

    Source:
        SMAC's own script (``heuristic_ai`` with ``heuristic_rest`` of ``StarCraft2Env``), which sees the whole map.
        Samvelyan et al., "The StarCraft Multi-Agent Challenge", 2019, give its win rates.
    """

    memory_size = 1

    def choose(self, sight: Sight, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Attack or close up; who has a target remembers its number, counted from 1."""
        wanted = (sight.enemy_seen | sight.attackable) & hurts(sight, self.eyes)
        nearest = sight.enemy_far.masked_fill(~wanted, torch.inf).argmin(-1)
        held = (memory[..., 0].long() - 1).clamp_min(0)
        holds = (memory[..., 0] > 0) & wanted.gather(-1, held[..., None])[..., 0]
        target = torch.where(holds, held, nearest)
        there = sight.enemy_at.gather(2, target[..., None, None].expand(*target.shape, 1, 2))[:, :, 0]
        any_wanted = wanted.any(-1)
        direction = torch.where(any_wanted[..., None], there, to_the_enemy(sight, self.eyes))
        attacks = sight.attackable.gather(-1, target[..., None])[..., 0]
        action = torch.where(attacks, self.eyes.first_attack + target, go(direction, sight, last_action))
        return action, torch.where(any_wanted, target + 1, 0)[..., None].to(memory.dtype)
