"""A team that stands where it started."""

from __future__ import annotations

from torch import Tensor

from qmix_lightning.envs.battle.scripted.base import AbstractScript
from qmix_lightning.envs.battle.scripted.sight import Sight
from qmix_lightning.envs.battle.scripted.walking import wait


class Stop(AbstractScript):
    """Does nothing: what is lost by it is what the enemies can do."""

    def choose(self, sight: Sight, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Stop."""
        return wait(sight), memory
