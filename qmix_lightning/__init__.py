"""QMIX and its family as a PyTorch Lightning module with recipes.

Everything public can be imported from here; a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmix_lightning.actors.qvalue import QValueModule
    from qmix_lightning.actors.qvalue_actor import QValueActor
    from qmix_lightning.actors.safe_sequential import SafeSequential
    from qmix_lightning.agents.base import AbstractAgent
    from qmix_lightning.agents.gru import GRUAgent
    from qmix_lightning.agents.mlp import MLPAgent
    from qmix_lightning.callbacks.dashboard import cockpit
    from qmix_lightning.callbacks.monitor import TrainingMonitor
    from qmix_lightning.callbacks.priorities import ReplayPriorities
    from qmix_lightning.callbacks.progress import BattleProgress
    from qmix_lightning.callbacks.target_networks import TargetUpdater
    from qmix_lightning.curves import LearningCurve, read_scalars
    from qmix_lightning.datamodule import ReplayDataModule
    from qmix_lightning.envs.base import AbstractEnvironment
    from qmix_lightning.envs.checking import check_env
    from qmix_lightning.envs.registry import make
    from qmix_lightning.exploration.egreedy import EGreedyModule
    from qmix_lightning.logger import EnvStepLogger
    from qmix_lightning.mixers.base import Mixer
    from qmix_lightning.mixers.qmix import QMixer
    from qmix_lightning.mixers.vdn import VDNMixer
    from qmix_lightning.module import QLearner
    from qmix_lightning.objectives.estimators.base import ValueEstimators
    from qmix_lightning.objectives.qmixer import QMixerLoss
    from qmix_lightning.objectives.target_update.hard import HardUpdate
    from qmix_lightning.objectives.target_update.soft import SoftUpdate
    from qmix_lightning.replay.buffer import ReplayBuffer
    from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
    from qmix_lightning.replay.samplers.uniform import UniformSampler
    from qmix_lightning.spec import Policy, TaskSpec

_HOME = {
    "AbstractAgent": "agents.base",
    "AbstractEnvironment": "envs.base",
    "BattleProgress": "callbacks.progress",
    "EGreedyModule": "exploration.egreedy",
    "EnvStepLogger": "logger",
    "GRUAgent": "agents.gru",
    "HardUpdate": "objectives.target_update.hard",
    "LearningCurve": "curves",
    "MLPAgent": "agents.mlp",
    "Mixer": "mixers.base",
    "Policy": "spec",
    "PrioritisedSampler": "replay.samplers.prioritised",
    "QLearner": "module",
    "QMixer": "mixers.qmix",
    "QMixerLoss": "objectives.qmixer",
    "QValueActor": "actors.qvalue_actor",
    "QValueModule": "actors.qvalue",
    "ReplayBuffer": "replay.buffer",
    "ReplayDataModule": "datamodule",
    "ReplayPriorities": "callbacks.priorities",
    "SafeSequential": "actors.safe_sequential",
    "SoftUpdate": "objectives.target_update.soft",
    "TargetUpdater": "callbacks.target_networks",
    "TaskSpec": "spec",
    "TrainingMonitor": "callbacks.monitor",
    "UniformSampler": "replay.samplers.uniform",
    "VDNMixer": "mixers.vdn",
    "ValueEstimators": "objectives.estimators.base",
    "check_env": "envs.checking",
    "cockpit": "callbacks.dashboard",
    "make": "envs.registry",
    "read_scalars": "curves",
}

__all__ = [
    "AbstractAgent", "AbstractEnvironment", "BattleProgress", "EGreedyModule", "EnvStepLogger", "GRUAgent",
    "HardUpdate", "LearningCurve", "MLPAgent", "Mixer", "Policy", "PrioritisedSampler", "QLearner", "QMixer",
    "QMixerLoss", "QValueActor", "QValueModule", "ReplayBuffer", "ReplayDataModule", "ReplayPriorities",
    "SafeSequential", "SoftUpdate", "TargetUpdater", "TaskSpec", "TrainingMonitor", "UniformSampler", "VDNMixer",
    "ValueEstimators", "check_env", "cockpit", "make", "read_scalars",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qmix_lightning' has no attribute {name!r}. It has {', '.join(_HOME)}.")
    return getattr(import_module(f"qmix_lightning.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
