"""A team that steps back while its weapons cool down."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.envs.battle.orders import NORTH, WEST
from qmix_lightning.envs.battle.scripted.base import AbstractScript
from qmix_lightning.envs.battle.scripted.focus_fire import reach_gap, share_out_targets
from qmix_lightning.envs.battle.scripted.sight import Sight
from qmix_lightning.envs.battle.scripted.walking import WAYS, go, to_the_enemy

_SOON = 0.5
"""Part of an environment step before whose end a weapon must be ready for an attack to be worth the order."""

_LOOKING_AHEAD = 6
"""Cells to the next wall that make fleeing that way more attractive, so that nobody is driven into a corner."""


class HitAndRun(AbstractScript):
    """Attacks like :class:`.FocusFire`, and then flees until it can attack again.

    It flees only from enemies in its reach whose weapons reach less far than its own and who are not faster. No agent
    sees its weapon's cooldown: each remembers when it last attacked somebody in reach, and takes the weapon's period
    from there. So that it is not driven into corners it flees where there is room, and reckons where on the map it is
    from where it started and how it has gone since.

    Source:
        The script *Kiter* in Churchill, Saffidine and Buro, "Fast heuristic search for RTS game combat scenarios",
        2012.
    """

    memory_size = 3

    def choose(self, sight: Sight, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Attack, flee or close up."""
        types, kind, step = self.eyes.types, sight.kind, float(self.eyes.rules.step_mul)
        cooling = memory[..., 0] > _SOON * step
        chased = self._chased(sight)
        away = -(sight.enemy_at / sight.enemy_far.clamp_min(0.1)[..., None] ** 3 * chased[..., None]).sum(2)
        flees = cooling & chased.any(-1)
        fights = sight.attackable.any(-1) & ~flees
        target = share_out_targets(sight, self.eyes)
        direction = torch.where(flees[..., None], away, to_the_enemy(sight, self.eyes))
        bonus = self._room(sight, memory[..., 1:]) * flees[..., None]
        action = torch.where(fights, self.eyes.first_attack + target, go(direction, sight, last_action, bonus))
        lacks = reach_gap(sight, self.eyes).gather(-1, target[..., None])[..., 0]
        fires = fights & ~cooling & (lacks <= types["speed"][kind] * (step - types["wind_up"][kind] - 1).clamp_min(0))
        left = torch.where(fires, types["period"][kind], memory[..., 0]) - step
        goes = ((action >= NORTH) & (action <= WEST))[..., None]
        walked = WAYS[(action - NORTH).clamp(0, 3)] * goes * (step * types["speed"][kind])[..., None]
        return action, torch.cat([left.clamp_min(0)[..., None], memory[..., 1:] + walked], -1)

    def _room(self, sight: Sight, walked: Tensor) -> Tensor:
        """What speaks for fleeing north, south, east and west, from 0 to 1, ``[B, N, 4]``."""
        place = sight.place if self.eyes.start is None else self.eyes.start + walked
        if sight.place is not None:
            place = sight.place
        if place is None:
            return torch.zeros(*sight.alive.shape, len(WAYS))
        return torch.stack([self.eyes.room(place, way, _LOOKING_AHEAD) for way in WAYS], -1) / _LOOKING_AHEAD

    def _chased(self, sight: Sight) -> Tensor:
        """By whom each agent is chased in vain, ``[B, N, M]``: slower, in its reach, and not the other way round."""
        types, them = self.eyes.types, sight.enemy_kind[:, None]
        outranged = types["range"][sight.kind][..., None] > types["range"][them] + 1
        slower = types["speed"][sight.kind][..., None] >= types["speed"][them]
        return sight.enemy_seen & outranged & slower & (reach_gap(sight, self.eyes) < 0)
