"""Worlds with the interface of PettingZoo, without that package, whose numbers say where they come from."""

from __future__ import annotations

import numpy as np


class Discrete:
    def __init__(self, n):
        self.n = n


class Corridor:
    """Agents a, b and c walk for 2, 4 and 6 steps and leave; observation ``[step, number, …]``, reward the number.

    Agent a sees 2 numbers, b 3 and c 4, and they have 2, 3 and 4 actions, of which ``step mod n`` is illegal to b.
    """

    possible_agents = ("a", "b", "c")
    max_cycles = 8

    def __init__(self, tells_state=True, cut_off=False):
        self._tells_state, self._cut_off = tells_state, cut_off
        self.agents, self.asked = [], []
        self.unwrapped = self

    def action_space(self, agent):
        return Discrete(2 + self.possible_agents.index(agent))

    def reset(self, seed=None):
        self.agents, self._step = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents), "those who are there act, and nobody else"
        self.asked.append(dict(actions))
        acting, self._step = self.agents, self._step + 1
        over = {agent: self._step == 2 * number for number, agent in enumerate("abc", 1)}
        rewards = {agent: float("abc".index(agent) + 1) for agent in acting}
        seen = self._seen()
        self.agents = [agent for agent in acting if not over[agent]]
        ended = {agent: over[agent] for agent in acting}
        nobody = dict.fromkeys(acting, False)
        terminated, truncated = (nobody, ended) if self._cut_off else (ended, nobody)
        return seen, rewards, terminated, truncated, {agent: {} for agent in acting}

    def state(self):
        if not self._tells_state:
            raise NotImplementedError
        return np.array([[self._step, 7.0]])

    def close(self):
        self.agents = []

    def _seen(self):
        seen = {agent: np.array([self._step, *[number] * number]) for number, agent in enumerate("abc", 1)}
        mask = np.ones(3, dtype=np.int8)
        mask[self._step % 3] = 0
        seen["b"] = {"observation": seen["b"], "action_mask": mask}
        return {agent: seen[agent] for agent in self.agents}


def parallel_env(**options):
    return Corridor(**options)
