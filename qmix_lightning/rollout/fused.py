"""Steps of a rollout in one compiled call: policy, environment and recorder, one after the other, without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.functional.compiling import kernel_over, may_compute, readable
from qmix_lightning.functional.stages import call, is_own
from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.rollout.recording import must_cut, overdue, write_rows, write_step
from qmix_lightning.rollout.remembering import forget
from qmix_lightning.spec import ACTION_MASK, OBSERVATION, PlannedSteps, Policy, Staged


class FusedSteps:
    """Plays steps as :class:`~qmix_lightning.rollout.batched.BatchedRollout` does, with the same outcome.

    Args:
        policy: Who plays.
        explore: Whether as in training.
        env: The battles.
        recorder: Writes the steps down.
        view: What the environment shows, in tensors that stay where they are.
        memory: ``[B, N, H]``, what agents remember.
        last_action: ``[B, N]`` int64, what they did last.
        fresh: ``[1, N, H]``, what those remember who begin.

    Attributes:
        memory: What agents remember after the last step.
        last_action: What they did in it.
        playable: Whether policy, environment and recorder all can do without Python.
        played: Steps of the last :meth:`play`, also of one that was interrupted.
    """

    def __init__(
        self,
        policy: Policy,
        explore: bool,
        env: AbstractEnvironment,
        recorder: EpisodeRecorder,
        view: TensorDict,
        memory: Tensor,
        last_action: Tensor,
        fresh: Tensor,
    ) -> None:
        self._policy, self._explore, self._recorder, self._views = policy, explore, recorder, recorder.views
        self._env, self._stay, self._tried, self.played = env, _always, may_compute(), 0
        self.memory, self.last_action, self._fresh = memory.clone(), last_action.clone(), fresh.clone()
        self._around: Callable[[], AbstractContextManager[object]] = nullcontext
        self._progress = np.zeros(2, dtype=np.int64)
        self._plan, self._arguments = self._planned(env, view.get(OBSERVATION), view.get(ACTION_MASK))
        self.playable = self._plan is not None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copy nothing: what is called by its address is where it was."""
        return type(None), ()

    def fits(
        self,
        policy: Policy,
        explore: bool,
        env: AbstractEnvironment,
        recorder: EpisodeRecorder,
        memory: Tensor,
        fresh: Tensor,
    ) -> bool:
        """Whether these are still the steps of all of these, and what can be said of them holds."""
        same = self._policy is policy and self._explore == explore and self._env is env and self._recorder is recorder
        if not same or self._views is not recorder.views:
            return False
        if self._plan is None:
            # What autocast kept from compiled loops may be theirs after it.
            return self._tried or not may_compute()
        alike = _alike(memory, self.memory) and _alike(fresh, self._fresh)
        return alike and is_own(policy, "stage") and self._plan.stays() and is_own(env, "stages") and self._stay()

    def go_on_from(self, memory: Tensor, last_action: Tensor, fresh: Tensor) -> None:
        """Begin the next steps with these tensors."""
        for tensor, ours in ((memory, self.memory), (last_action, self.last_action), (fresh, self._fresh)):
            if tensor is not ours:
                ours.copy_(tensor)

    def _planned(
        self, env: AbstractEnvironment, observation: Tensor, action_mask: Tensor
    ) -> tuple[PlannedSteps | None, tuple[Any, ...]]:
        tensors = (observation, action_mask, self.memory, self.last_action, self._fresh)
        if self._views is None or not isinstance(self._policy, Staged) or not readable(*tensors):
            return None, ()
        if not (is_own(self._policy, "stage") and is_own(env, "stages")):
            return None, ()
        memory, last_action, fresh = tensors[2:]
        if not self._views.take(last_action) or memory.dtype != fresh.dtype or memory.shape[1:] != fresh.shape[1:]:
            return None, ()
        plan = self._policy.stage(observation, action_mask, last_action, memory, explore=self._explore)
        if plan is None or (stages := env.stages(last_action, self._recorder.over)) is None:
            return None, ()
        self._around, self._stay = stages.around, stages.stay
        book = self._recorder.book(self._views, last_action)
        arrays = (tensor.numpy() for tensor in (fresh, memory, last_action))
        return plan, (plan.stage, stages.advance, stages.restart, book, *arrays, self._progress)

    def play(self, env_steps: Sequence[int], generator: Generator | None) -> int:
        """Play and record steps.

        Args:
            env_steps: Environment steps collected before each of them.
            generator: Of the exploration.

        Returns:
            How many were played; fewer than asked for if one takes Python, be it to raise an error.
        """
        self.played, plan = 0, self._plan
        while plan is not None and self.played < len(env_steps):
            some = env_steps[self.played : self.played + plan.most]
            n_calls = min(plan.prepare(some if self._explore else None, generator), len(some))
            if not n_calls or not self._play_prepared(plan, n_calls):
                break
        return self.played

    def _play_prepared(self, plan: PlannedSteps, n_calls: int) -> bool:
        begin = self.played
        end, why = begin + n_calls, _PLAYED
        try:
            while self.played < end and why in (_PLAYED, _MUST_CUT):
                why = self._run(end - self.played)
                if why == _MUST_CUT:
                    self._recorder.cut_waiting()
        finally:
            if self.played < end:
                # An action that proves illegal was chosen, by its draws.
                plan.take_back(self.played - begin + (why == _ILLEGAL))
        if why == _ILLEGAL:
            self._env.step(self.last_action)  # which tells what is wrong with it
            raise RuntimeError(f"A stage of {type(self._env).__name__} refused a step that its method step plays.")
        return self.played == end

    def _run(self, times: int) -> int:
        progress, before = self._progress, self.played
        progress[0], progress[1] = 0, self._recorder.cursor
        arguments: Any = (*self._arguments, times)
        try:
            with self._around():
                why = play(*arguments)
        finally:  # An interruption by the keyboard is raised when compiled code has come to its end.
            self.played, self._recorder.cursor = before + int(progress[0]), int(progress[1])
        return why


def _always() -> bool:
    return True


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype and tensor.device == other.device


_PLAYED: Final = 0
_MUST_CUT: Final = 1
_REFUSED: Final = 2
_ILLEGAL: Final = 3


@kernel_over(write_step, forget, call)
def play(
    policy: Any, advance: Any, restart: Any, book: Any, fresh: Any, memory: Any, last_action: Any, progress: Any,
    times: int,
) -> int:  # fmt: skip
    """Play and record steps until something is in the way.

    Args:
        policy: Its stage.
        advance: The stage that plays a step.
        restart: The stage that begins those episodes anew that ended.
        book: Where steps are written down.
        fresh: ``[1, N, H]``, the memory of those who begin.
        memory: ``[B, N, H]``.
        last_action: ``[B, N]``.
        progress: ``[2]`` int64, how many steps were played, which is written, and the column of what is seen now, which
            goes on from what it is at first.
        times: How many steps to play.

    Returns:
        What was in the way, if anything.
    """
    n_battles = len(book.length)
    cursor = progress[1]
    for t in range(times):
        progress[0], progress[1] = t, cursor
        if must_cut(book.waits, book.waiting, n_battles):
            return _MUST_CUT
        if overdue(book.length, book.limit) or call(policy) >= 0:
            return _REFUSED
        if call(advance) >= 0:
            return _ILLEGAL
        following = (cursor + 1) % book.n_columns
        count = write_step(book, cursor, following)
        cursor = following
        if count > 0:
            call(restart)
            ended = book.waiting[book.waits[0] - count : book.waits[0], 0]
            write_rows(book.seen, cursor, book.n_columns, ended, book.length)
            forget(memory, last_action, ended, fresh)
    progress[0], progress[1] = times, cursor
    return _PLAYED
