"""What is added to a training run: monitoring, progress, the priorities of replay, and targets of other modules."""

from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.callbacks.priorities import ReplayPriorities
from qmix_lightning.callbacks.progress import BattleProgress
from qmix_lightning.callbacks.target_networks import TargetUpdater

__all__ = ["BattleProgress", "ReplayPriorities", "TargetUpdater", "TrainingMonitor"]
