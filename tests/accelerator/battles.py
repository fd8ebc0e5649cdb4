"""Battles on the device of device.py."""

import torch

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.registry import make
from tests.accelerator.device import FarTensor, launch


class FarBattles(AbstractEnvironment):
    """Battles fought by kernels on the device, which a graph records as it does torch's."""

    replayable = True

    def __init__(self, name="battle/3m", num_envs=1, seed=0, first=0):
        self._env = make(name, num_envs=num_envs, seed=seed, first=first)
        self.spec, self.num_envs = self._env.spec, self._env.num_envs
        self.info_keys, self.snapshot_keys = self._env.info_keys, self._env.snapshot_keys
        self._view = self._env.reset(torch.zeros(self.num_envs, dtype=torch.bool)).apply(FarTensor)
        action = torch.zeros(self.num_envs, self.spec.n_agents, dtype=torch.int64)
        self._outcome = self._env._outcome.apply(FarTensor)
        self._action, self._which = FarTensor(action), FarTensor(torch.ones(self.num_envs, dtype=torch.bool))
        self.looks = 0

    def reset(self, which=None):
        if which is None:
            self._which.fill_(True)
        else:
            self._which.copy_(which)
        launch(lambda: self._env.reset(self._which.near))
        return self._view

    def step(self, action):
        self._action.copy_(action)
        launch(lambda: self._env.step(self._action.near))
        return self._outcome

    def look(self):
        self.looks += 1

    def seed(self, seed):
        self._env.seed(seed)

    def state_dict(self):
        return self._env.state_dict()

    def load_state_dict(self, state):
        self._env.load_state_dict(state)
