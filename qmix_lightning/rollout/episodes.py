"""Episodes in the making: what happens to battles that run side by side, cut into one record a battle."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    DONE,
    INFO,
    MASK,
    OBSERVATION,
    REWARD,
    STATE,
    TERMINATED,
    TaskSpec,
)

Key = str | tuple[str, ...]


class EpisodeRecorder:
    """Writes down B battles step by step and hands out those that ended, as episodes of T + 1 steps.

    Step t of an episode holds what was seen before the action of step t, the action, and what it brought. The step
    after the last one holds only what was seen at the end, to bootstrap from: its mask is false and its action 0. All
    later steps are padding, zeros with action 0 legal. Nothing is stored twice.

    The record is a ring over time which all battles share, ``[T + 2, B, ...]``: whenever an episode began, every battle
    writes into the same column, so a step costs one copy a key. An episode that ends is gathered from its columns, its
    padding from one more column that is never written.

    Args:
        spec: The task's sizes, of which only ``episode_limit`` T is needed: the rest comes with the first step.
        num_envs: Number B of battles.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> env = TwoStepGame(num_envs=4)
        >>> recorder = EpisodeRecorder(env.spec, env.num_envs)
        >>> recorder.begin(env.reset())
        >>> action = torch.ones(4, 2, dtype=torch.int64)
        >>> recorder.record(action, env.step(action)) is None
        True
        >>> ended, episodes = recorder.record(action, env.step(action))
        >>> ended, episodes.batch_size, episodes["next", "reward"][0, :, 0]
        (tensor([0, 1, 2, 3]), torch.Size([4, 3]), tensor([0., 8., 0.]))
    """

    def __init__(self, spec: TaskSpec, num_envs: int) -> None:
        self.limit, self.num_envs = spec.episode_limit, num_envs
        self._columns: dict[Key, Tensor] = {}
        self._cursor = 0
        self._length = torch.zeros(num_envs, dtype=torch.int64)

    def begin(self, view: TensorDict, which: Tensor | None = None) -> None:
        """Start the record of new episodes.

        Args:
            view: What ``reset`` of the environment returned.
            which: ``[k]`` int64, the battles that start anew; None means all.
        """
        self._see(view)
        if which is None:
            self._length = torch.zeros(self.num_envs, dtype=torch.int64, device=view[STATE].device)
        else:
            self._length.index_fill_(0, which, 0)

    def record(self, action: Tensor, outcome: TensorDict) -> tuple[Tensor, TensorDict] | None:
        """Write down one step of every battle.

        Args:
            action: ``[B, N]`` int64, what was done.
            outcome: What ``step`` of the environment returned.

        Returns:
            None, or the battles that ended, ``[k]`` int64, and their episodes ``[k, T + 1]``. These battles must
            :meth:`begin` anew before the next step.

        Raises:
            RuntimeError: If nothing began, or a battle goes on after its episode limit.
        """
        if not self._columns:
            raise RuntimeError("No episode began yet: EpisodeRecorder.begin(env.reset()) comes before record.")
        if int(self._length.max()) >= self.limit:
            raise RuntimeError(
                f"Battle {int(self._length.argmax())} goes on after {self.limit} steps, the episode_limit of its spec. "
                "The environment must report it done there, and it must begin anew before the next step."
            )
        self._write(ACTION, action)
        self._write(REWARD, outcome["reward"])
        self._write(DONE, outcome["done"])
        self._write(TERMINATED, outcome["terminated"])
        if (info := outcome.get("info", None)) is not None:
            for name, value in info.items():
                self._write((*INFO, name), value)
        self._length += 1
        self._cursor = (self._cursor + 1) % (self.limit + 1)
        self._see(outcome)
        ended = outcome["done"].flatten().nonzero().flatten()
        return (ended, self._episodes(ended)) if len(ended) else None

    def _see(self, view: TensorDict) -> None:
        for key in (OBSERVATION, ACTION_MASK, STATE):
            self._write(key, view[key])

    def _write(self, key: Key, value: Tensor) -> None:
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = value.new_zeros(self.limit + 2, *value.shape)
            if key == ACTION_MASK:
                columns[-1, ..., 0] = True
        columns[self._cursor].copy_(value)

    def _episodes(self, ended: Tensor) -> TensorDict:
        length = self._length[ended, None]
        step = torch.arange(self.limit + 1, device=ended.device)
        column = (self._cursor - length + step) % (self.limit + 1)
        place, padding = column * self.num_envs + ended[:, None], (self.limit + 1) * self.num_envs
        played = torch.where(step < length, place, padding).flatten()
        seen = torch.where(step <= length, place, padding).flatten()
        shape = (len(ended), self.limit + 1)
        entries: dict[Key, Tensor] = {MASK: (step < length).unsqueeze(-1)}
        for key, columns in self._columns.items():
            chosen = seen if key in (OBSERVATION, ACTION_MASK, STATE) else played
            entries[key] = columns.flatten(0, 1).index_select(0, chosen).view(*shape, *columns.shape[2:])
        return TensorDict(entries, shape)
