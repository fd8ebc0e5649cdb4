"""Mixers turn the values of the agents' actions into the value of their joint action."""

from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.qmix import QMixer
from qmix_lightning.mixers.vdn import VDNMixer

__all__ = ["Mixer", "QMixer", "VDNMixer"]
