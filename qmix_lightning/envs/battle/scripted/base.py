"""The contract of scripted teams."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from qmix_lightning.envs.battle.scripted.sight import Eyes, Sight
from qmix_lightning.envs.battle.scripted.walking import go, to_the_army


class AbstractScript(ABC):
    """A :class:`~qmix_lightning.spec.Policy` of a few rules, which decides from what the agents see together.

    Healers are the same in every script: they heal the weakest of the wounded in reach, and follow the army.

    Args:
        eyes: Reads what is seen on the map that is played.

    Attributes:
        memory_size: How many numbers H each agent remembers.
    """

    memory_size = 0

    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes

    @abstractmethod
    def choose(self, sight: Sight, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Choose for everybody, as if nobody were a healer; actions ``[B, N]``, memory ``[B, N, H]``."""

    def initial_memory(self, battles: int) -> Tensor:
        """Return zeros, ``[B, N, H]``."""
        return torch.zeros(battles, int(self.eyes.rules.n_agents), self.memory_size)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one legal action for every agent; see :class:`~qmix_lightning.spec.Policy`."""
        sight = self.eyes.look(observation, action_mask)
        action, memory = self.choose(sight, last_action, memory)
        if self.eyes.rules.wins_without_medivacs:
            heals = sight.alive & (self.eyes.types["heal_rate"][sight.kind] > 0)
            action = torch.where(heals, self._tend(sight, last_action), action)
        return action, memory

    def _tend(self, sight: Sight, last_action: Tensor) -> Tensor:
        biological = (self.eyes.types["biological"][sight.kind] > 0)[:, None]
        wounded = sight.healable & biological & (sight.health < 1)[:, None]
        weakest = sight.health[:, None].expand_as(wounded).masked_fill(~wounded, torch.inf).argmin(-1)
        follow = go(to_the_army(sight, self.eyes), sight, last_action)
        return torch.where(wounded.any(-1), self.eyes.first_attack + weakest, follow)
