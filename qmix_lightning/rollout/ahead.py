"""Battles that go on while the learner learns."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from tensordict import TensorDict

from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.spec import Policy


class OneAhead:
    """Plays in a thread of its own what the next batch of training needs, while this one is trained on.

    How many steps are played, and by which policy, is settled when they begin, and nobody sees what they bring before
    :meth:`finish`: the course of training does not depend on which of the two is faster.

    Args:
        rollout: Who plays. Between :meth:`begin` and :meth:`finish` it belongs to the thread.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> from qmix_lightning.rollout.batched import BatchedRollout
        >>> class Ones:
        ...     def initial_memory(self, battles):
        ...         return torch.zeros(battles, 2, 0)
        ...     def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        ...         return torch.ones_like(last_action), memory
        >>> ahead = OneAhead(BatchedRollout(TwoStepGame(num_envs=4)))
        >>> ahead.begin(Ones(), steps=5)
        >>> [episodes.batch_size for episodes in ahead.finish()]
        [torch.Size([8, 3])]
    """

    def __init__(self, rollout: AbstractRollout) -> None:
        self._rollout = rollout
        self._thread: ThreadPoolExecutor | None = None
        self._playing: Future[list[TensorDict]] | None = None
        self._played: list[TensorDict] = []

    def begin(self, policy: Policy, steps: int) -> None:
        """Begin to play ``steps`` steps of every battle; the policy must stay as it is until they are finished."""
        if self._thread is None:
            # Threads of computation are set for each thread; a new one would take all cores.
            self._thread = ThreadPoolExecutor(1, "rollout", torch.set_num_threads, (torch.get_num_threads(),))
        self._playing = self._thread.submit(self._play, policy, steps)

    def finish(self) -> list[TensorDict]:
        """Wait for the steps under way, if any; the episodes that ended meanwhile."""
        self.wait()
        played, self._played = self._played, []
        return played

    def wait(self) -> list[TensorDict]:
        """Wait for the steps under way, and look at what :meth:`finish` will return, for a checkpoint."""
        if self._playing is not None:
            playing, self._playing = self._playing, None
            self._played += playing.result()
        return self._played

    def restore(self, played: list[TensorDict]) -> None:
        """Have :meth:`finish` return what :meth:`wait` once did."""
        self._playing, self._played = None, list(played)

    def close(self) -> None:
        """Wait for the steps under way, and end the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _play(self, policy: Policy, steps: int) -> list[TensorDict]:
        ended = self._rollout.step(policy, explore=True, times=steps)
        return [] if ended is None else [ended]
