"""An ε-greedy policy as a stage of a compiled loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from qmix_lightning.exploration.epsilon_greedy import choose, refuse_improbable
from qmix_lightning.functional.compiling import kernel_over
from qmix_lightning.functional.stages import Stage, call, stage_of


class PolicyStage:
    """What an ε-greedy policy does in battles whose tensors stay where they are.

    A :class:`~qmix_lightning.spec.PlannedSteps`.

    Args:
        agent: Values the actions, and writes them to ``value`` and new memories to ``after``.
        stays: Tells whether ``agent`` still does what the policy's agents would.
        epsilon: Probability of a random action, after so many environment steps.
        value: ``[B, N, A]`` float32.
        after: ``[B, N, H]`` float32.
        action_mask: ``[B, N, A]`` bool, which is read.
        last_action: ``[B, N]`` int64, which is overwritten with what is chosen.
        memory: ``[B, N, H]`` float32, which is overwritten with new memories.

    Attributes:
        stage: Chooses for every agent; see :func:`act`.
        most: How many calls of it can be prepared at once.
    """

    most = 8

    def __init__(
        self,
        agent: Stage,
        stays: Callable[[], bool],
        epsilon: Callable[[int], Any],
        value: Tensor,
        after: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
    ) -> None:
        self.stays, self._epsilon = stays, epsilon
        self._draws = torch.zeros(self.most, *last_action.shape, 2, dtype=torch.float32)
        self._generator: Generator | None = None
        self._epsilons, self._now = np.zeros(self.most, dtype=np.float32), np.zeros(1, dtype=np.int64)
        arrays = (tensor.numpy() for tensor in (value, after, action_mask, last_action, memory))
        chosen = np.empty(last_action.shape, dtype=np.int64)
        self.stage = stage_of(act, agent, *arrays, self._draws.numpy(), self._epsilons, self._now, chosen)

    def prepare(self, env_steps: Sequence[int] | None, generator: Generator | None) -> int:
        """Draw what the next calls of the stage decide by, as many as there are numbers in ``env_steps``.

        Args:
            env_steps: Environment steps collected before each call; None acts greedily.
            generator: As of :func:`~qmix_lightning.exploration.epsilon_greedy.epsilon_greedy`, which draws the same.

        Returns:
            How many may be made, up to the first whose ε is no probability, which the policy may say, or is a tensor.
        """
        self._now[0], self._generator = 0, None
        if env_steps is None:
            self._epsilons.fill(0.0)
            return self.most
        n_calls = self._ask(env_steps)
        self._generator = torch.default_generator if generator is None else generator
        self._before = self._generator.get_state()
        self._draw(n_calls)
        return n_calls

    def take_back(self, n_calls: int) -> None:
        """Leave the generator as if only so many calls had been prepared the last time."""
        if self._generator is not None:
            self._generator.set_state(self._before)
            self._draw(n_calls)

    def _ask(self, env_steps: Sequence[int]) -> int:
        for t, steps in enumerate(env_steps):
            try:
                epsilon = self._epsilon(steps)
                refuse_improbable(epsilon)
                self._epsilons[t] = epsilon
            except Exception:  # The policy meets it again, after the steps before it.
                return t
            if isinstance(epsilon, Tensor):
                return t
        return len(env_steps)

    def _draw(self, n_calls: int) -> None:
        draws = self._draws[:n_calls]
        torch.rand(draws.shape, generator=self._generator, out=draws, dtype=draws.dtype)


@kernel_over(choose, call)
def act(
    agent: Any, value: Any, after: Any, action_mask: Any, last_action: Any, memory: Any, draws: Any, epsilons: Any,
    now: Any, chosen: Any,
) -> int:  # fmt: skip
    """Choose one legal action for every agent: -1, or 0 with nothing changed, if it takes more than compiled loops."""
    t = now[0] % len(epsilons)
    if call(agent) != 0 or not choose(value, action_mask, draws[t], epsilons[t], chosen):
        return 0
    now[0] = t + 1
    n_rows = chosen.size
    last, new = last_action.reshape(n_rows), chosen.reshape(n_rows)
    for i in range(n_rows):
        last[i] = new[i]
    before, following = memory.reshape(memory.size), after.reshape(memory.size)
    for i in range(memory.size):
        before[i] = following[i]
    return -1
