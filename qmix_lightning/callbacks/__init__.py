"""What is added to a training run: monitoring, progress, priorities of replay, targets of other modules, and an end."""

from qmix_lightning.callbacks.best import BestCheckpoint
from qmix_lightning.callbacks.dashboard import CockpitLayout, cockpit
from qmix_lightning.callbacks.evaluation import EvaluationMonitor
from qmix_lightning.callbacks.film import BattleFilm
from qmix_lightning.callbacks.hyperparameters import HyperParameters
from qmix_lightning.callbacks.last import LastCheckpoint
from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.callbacks.networks import NetworkMonitor
from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.callbacks.progress import BattleProgress
from qmix_lightning.callbacks.replay import ReplayMonitor
from qmix_lightning.callbacks.schedule import EnvStepSchedule
from qmix_lightning.callbacks.stages import StageTimes
from qmix_lightning.callbacks.target_networks import TargetUpdater
from qmix_lightning.callbacks.termination import TogetherOnSigterm

__all__ = [
    "BattleFilm",
    "BattleProgress",
    "BestCheckpoint",
    "CockpitLayout",
    "EnvStepSchedule",
    "EvaluationMonitor",
    "HyperParameters",
    "LastCheckpoint",
    "NetworkMonitor",
    "ReplayMonitor",
    "ReplayPriorities",
    "StageTimes",
    "TargetUpdater",
    "TogetherOnSigterm",
    "TrainingMonitor",
    "cockpit",
]
