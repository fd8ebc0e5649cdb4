"""What needs both the learner and the world: monitoring and progress."""

from qmix_lightning.callbacks.monitor import TrainingMonitor
from qmix_lightning.callbacks.progress import BattleProgress

__all__ = ["BattleProgress", "TrainingMonitor"]
