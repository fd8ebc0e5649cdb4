"""The networks that value each agent's actions."""

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.agents.mlp import MLPAgent

__all__ = ["AbstractAgent", "GRUAgent", "MLPAgent"]
