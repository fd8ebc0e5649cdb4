"""A team that kills one enemy after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.envs.battle.scripted.base import AbstractScript
from qmix_lightning.envs.battle.scripted.sight import Eyes, Sight
from qmix_lightning.envs.battle.scripted.walking import go, to_the_enemy


class FocusFire(AbstractScript):
    """Attacks the enemy that falls to the fewest attacks, with no more agents than it takes, and closes up without one.

    Source:
        The rule against overkill is that of the script NOK-AV in Churchill, Saffidine and Buro, "Fast heuristic search
        for RTS game combat scenarios", 2012.
    """

    def choose(self, sight: Sight, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Attack or close up."""
        closing_up = go(to_the_enemy(sight, self.eyes), sight, last_action)
        target = share_out_targets(sight, self.eyes)
        return torch.where(sight.attackable.any(-1), self.eyes.first_attack + target, closing_up), memory


def share_out_targets(sight: Sight, eyes: Eyes) -> Tensor:
    """Whom each agent attacks, ``[B, N]``, any number where it may attack nobody.

    One agent after the other takes the enemy for which it needs the fewest attacks, those included that it could do
    while it walks there, and leaves out those whom the agents before it, if they reach them now, kill at one blow.
    """
    left = sight.enemy_strength.clone()
    damage = eyes.damage[sight.kind[..., None], sight.enemy_kind[:, None]]
    walk = reach_gap(sight, eyes).clamp_min(0)
    while_walking = walk / (eyes.types["speed"] * eyes.types["period"]).clamp_min(0.1)[sight.kind][..., None]
    targets = []
    for agent in range(sight.alive.shape[1]):
        may, hit = sight.attackable[:, agent], damage[:, agent]
        attacks = (left / hit.clamp_min(0.1)).clamp_min(1.0) + while_walking[:, agent] + 1e3 * (left <= 0)
        target = attacks.masked_fill(~may, torch.inf).argmin(-1, keepdim=True)
        strikes = may & (walk[:, agent] == 0)
        left = left.scatter_add(1, target, -(hit * strikes).gather(1, target))
        targets.append(target[:, 0])
    return torch.stack(targets, 1)


def reach_gap(sight: Sight, eyes: Eyes) -> Tensor:
    """Cells that each agent's weapon lacks to each enemy, ``[B, N, M]``, negative within its reach."""
    reach = (eyes.types["range"] + eyes.types["radius"])[sight.kind][..., None]
    return sight.enemy_far - reach - eyes.types["radius"][sight.enemy_kind][:, None]
