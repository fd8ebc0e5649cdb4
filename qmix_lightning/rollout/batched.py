"""Battles that run side by side in this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.functional.graphs import GRAPHS, ReplayedStep, say_why_not
from qmix_lightning.rollout.base import AbstractRollout, ordinary_tensors
from qmix_lightning.rollout.distant import DistantRecorder
from qmix_lightning.rollout.episodes import WHOLE_VIEW, EpisodeRecorder
from qmix_lightning.rollout.fused import FusedSteps
from qmix_lightning.rollout.recording import Key
from qmix_lightning.rollout.remembering import begin_anew
from qmix_lightning.spec import ACTION_MASK, MASK, NO_ACTION, OBSERVATION, Policy, Replayable


class BatchedRollout(AbstractRollout):
    """Advances all battles of one environment together; a battle that ends restarts at once, so none waits for another.

    The policy may live on another device than the environment, and calls may be made in inference mode: episodes are
    ordinary tensors, without a graph, on the environment's device. Where that is an accelerator, it is not asked at
    every step whose episodes ended, and if policy and environment say that they can be replayed, :meth:`step` does so
    with a step that was recorded; :meth:`play` calls all operations one by one.

    Args:
        env: The battles. :meth:`play` seeds and restarts them too, so give evaluation its own.
        seed: Of the exploration.
        replicas: How many rollouts of the same size, this one included, advance together, each on its own rank; the
            environment steps of all are counted.
        first: Number of this environment's first battle in a round of :meth:`play`; more than 0 if the battles of a
            round are shared out over ranks, each of whose environments has its own.
        round_size: Number of battles in a round of :meth:`play`, over all ranks; None if this environment has them all.
        compact: Whether episodes hold the environment's snapshot, from which its ``observe`` makes observations, action
            masks and state again, instead of these three.

    Raises:
        ValueError: If ``replicas`` is not positive, this environment's battles do not lie within a round, or it has no
            snapshot to be compact with.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> class Ones:
        ...     def initial_memory(self, battles):
        ...         return torch.zeros(battles, 2, 0)
        ...     def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        ...         return torch.ones_like(last_action), memory
        >>> rollout = BatchedRollout(TwoStepGame(num_envs=4))
        >>> rollout.step(Ones(), explore=True) is None
        True
        >>> rollout.step(Ones(), explore=True).batch_size, rollout.env_steps, rollout.episodes
        (torch.Size([4, 3]), 8, 4)
        >>> rollout.play(Ones(), episodes=6, seed=1)["next", "reward"].sum((1, 2))
        tensor([8., 8., 8., 8., 8., 8.])
    """

    _view: TensorDict
    _seen_in: AbstractEnvironment  # whose view it is
    _memory: Tensor
    _last_action: Tensor
    _fresh: Tensor | None  # what agents remember who begin; asked once a call, between which a policy may change
    _steps_there: Tensor

    def __init__(
        self,
        env: AbstractEnvironment,
        *,
        seed: int = 0,
        replicas: int = 1,
        first: int = 0,
        round_size: int | None = None,
        compact: bool = False,
    ) -> None:
        if replicas < 1:
            raise ValueError(f"replicas counts this rollout too, expected at least 1, got {replicas}.")
        round_size = first + env.num_envs if round_size is None else round_size
        if not 0 <= first <= round_size - env.num_envs:
            raise ValueError(
                f"Expected the battles {first} to {first + env.num_envs - 1} of this environment to be among the"
                f" round_size={round_size} of a round, 0 to {round_size - 1}. A round has the battles of all ranks."
            )
        if compact and not env.snapshot_keys:
            raise ValueError(
                f"compact=True records the snapshot of an environment, but {type(env).__name__} of {env.spec.name} has"
                " none: its snapshot_keys are empty. Set compact=False to record what it shows."
            )
        self.env, self.spec, self.info_keys, self.seed = env, env.spec, env.info_keys, seed
        self.replicas, self.first, self.round_size, self.compact = replicas, first, round_size, compact
        self.env_steps = self.episodes = 0
        self._recorder: EpisodeRecorder | DistantRecorder
        self._playing = False
        self._generator: Generator | None = None
        self._there: torch.device | None = None  # where it and the policy are
        self._generator_state: Tensor | None = None
        self._graph: ReplayedStep | None = None
        self._fused: FusedSteps | None = None
        self._graph_of: tuple[Any, ...] = ()  # what the graph, or the lack of one, depends on

    def step(self, policy: Policy, *, explore: bool, times: int = 1) -> TensorDict | None:
        """Advance every battle by one step, so many times."""
        with ordinary_tensors():
            if not self._playing:
                if not times:
                    return None
                self._begin(policy)
            self._take_over(policy)
            recorder = self._recorder
            # Who plays nothing this time must not cost another policy its graph.
            graph = self._graph_for(policy, explore) if times and isinstance(recorder, DistantRecorder) else None
            left = times
            while left > 0:
                if graph is not None and isinstance(recorder, DistantRecorder):
                    recorder.make_room()
                    graph()
                elif played := self._play_fused(policy, explore, left, self._count):
                    left -= played
                    continue
                else:
                    self._advance(policy, self.env_steps if explore else None)
                self._count(1)
                left -= 1
            if graph is not None:
                self.env.look()
            taken = recorder.take()
        if taken is None:
            return None
        self.episodes += len(taken[1])
        return taken[1]

    def play(self, policy: Policy, episodes: int, *, seed: int) -> TensorDict:
        """Play one fresh greedy episode in every battle, and again until there are enough.

        Each round waits for its longest episode, so that short ones are not preferred. Battles that ended earlier go on
        unrecorded, since an environment advances all of its battles.

        In round n, battle b of this environment plays episode ``n * round_size + first + b`` of all. Ranks whose
        environments were made with the same ``first`` thus play, between them, what one rank with all battles would
        (but for ties that a policy decides by roundings, which depend on how many battles it is shown at once).

        Returns:
            ``[k, T + 1]``, the episodes below ``episodes`` that this environment played, which may be none.

        Raises:
            ValueError: If no episode is asked for.
        """
        if episodes < 1:
            raise ValueError(f"BatchedRollout.play needs episodes >= 1, got {episodes}.")
        self._playing = False  # Training, if this environment trains too, starts anew.
        with ordinary_tensors():
            rounds = []
            # A rank whose battles are all beyond the last one plays a round too: it tells what an episode looks like.
            for number, start in enumerate(range(self.first, max(episodes, self.first + 1), self.round_size)):
                # How often a battle restarted while others went on depends on the policy; the next round must not.
                self.env.seed(seed + (number << 32))
                rounds.append(self._play_one_each(policy)[: max(0, episodes - start)])
            return torch.cat(rounds)

    def state_dict(self) -> dict[str, Any]:
        """Return counters, exploration, environment, and what is remembered and recorded of the battles under way."""
        with ordinary_tensors():
            env = self.env.state_dict()
            under_way = None
            if self._playing and env is not None:
                under_way = {
                    "memory": self._memory.clone(),
                    "last_action": self._last_action.clone(),
                    "recorder": self._recorder.state_dict(),
                }
            return {
                "env_steps": self.env_steps,
                "episodes": self.episodes,
                "seed": self.seed,
                "generator": self._generator_state if self._generator is None else self._generator.get_state(),
                "num_envs": self.env.num_envs,
                "compact": self.compact,
                "exact": env is not None,
                "env": env,
                "under_way": under_way,
            }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from a :meth:`state_dict`."""
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self.seed, self._generator, self._generator_state = state["seed"], None, state["generator"]
        self._playing = False
        alike = (state["num_envs"], state["compact"]) == (self.env.num_envs, self.compact)
        if not (state["exact"] and alike):
            return False
        self.env.load_state_dict(state["env"])
        if (under_way := state["under_way"]) is not None:
            with ordinary_tensors():
                self._view = self.env.reset(torch.zeros(self.env.num_envs, dtype=torch.bool))
                self._begin_record()
                self._recorder.load_state_dict(under_way["recorder"])
                self._memory, self._last_action = under_way["memory"], under_way["last_action"]
                self._playing = True
        return True

    def start_anew(self, env_seed: int, seed: int) -> None:
        """Have the battles that start from now on, and exploration, depend on these seeds."""
        self.env.seed(env_seed)
        self.seed = seed

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, policy: Policy) -> None:
        self._view = self.env.reset()
        self._begin_record()
        self._memory, self._fresh = policy.initial_memory(self.env.num_envs), None
        self._last_action = torch.full(self._view[ACTION_MASK].shape[:-1], NO_ACTION, device=self._memory.device)

    def _begin_record(self) -> None:
        """Record what is played from the present view on, where it is seen."""
        seen: tuple[Key, ...] = self.env.snapshot_keys if self.compact else WHOLE_VIEW
        kind = EpisodeRecorder if self._view.get(ACTION_MASK).device.type == "cpu" else DistantRecorder
        self._recorder = kind(self.spec, self.env.num_envs, seen)
        self._recorder.begin(self._view)
        self._seen_in = self.env
        self._graph_of = ()

    def _take_over(self, policy: Policy) -> None:
        """Let a policy go on where one on another device left off, or anew where it remembers otherwise."""
        fresh = policy.initial_memory(1)
        if fresh.shape[1:] != self._memory.shape[1:]:
            warnings.warn(
                f"Battles under way were played by agents with memories of {list(self._memory.shape[1:])}, and go on"
                f" with others of {list(fresh.shape[1:])}: all begin anew.",
                stacklevel=3,
            )
            self._begin(policy)
        if self._generator is None or self._there != fresh.device:
            self._settle(fresh.device)
        self._fresh = fresh

    def _settle(self, device: torch.device) -> None:
        """Explore on the policy's device, which is known from the first step on, and take there what was loaded."""
        self._memory, self._last_action = self._memory.to(device), self._last_action.to(device)
        if self._generator is not None:
            self._generator_state = self._generator.get_state()
        self._generator, self._there, self._graph_of = Generator(device), device, ()
        fresh, kept = self._generator.manual_seed(self.seed).get_state(), self._generator_state
        if kept is not None and kept.shape == fresh.shape:
            self._generator.set_state(kept.cpu())
        elif kept is not None:  # Of another kind of device, which cannot be taken up.
            self._generator.manual_seed(self.seed + self.env_steps)

    def _count(self, steps: int) -> None:
        if steps:
            self._playing = True
            self.env_steps += steps * self.env.num_envs * self.replicas

    def _play_fused(self, policy: Policy, explore: bool, times: int, count: Callable[[int], None] | None = None) -> int:
        """Play steps in one compiled call; how many were played, which is none where no compiled loop can."""
        recorder, fresh = self._recorder, self._fresh_of(policy)
        if not isinstance(recorder, EpisodeRecorder) or recorder.views is None or self._seen_in is not self.env:
            return 0
        fused = self._fused
        if fused is None or not fused.fits(policy, explore, self.env, recorder, self._memory, fresh):
            before = self._memory, self._last_action, fresh
            fused = self._fused = FusedSteps(policy, explore, self.env, recorder, self._view, *before)
        if not fused.playable:
            return 0
        fused.go_on_from(self._memory, self._last_action, fresh)
        self._memory, self._last_action = fused.memory, fused.last_action
        now, per_step = self.env_steps, self.env.num_envs * self.replicas
        try:
            return fused.play(range(now, now + times * per_step, per_step), self._generator)
        finally:  # Also those before an error or an interruption.
            if count is not None:
                count(fused.played)

    def _fresh_of(self, policy: Policy) -> Tensor:
        if self._fresh is None:
            self._fresh = policy.initial_memory(1)
        return self._fresh

    def _graph_for(self, policy: Policy, explore: bool) -> ReplayedStep | None:
        """A step to be replayed, which ends in the memory that it began in; None if steps are to be called."""
        fixed: tuple[Any, ...] = (policy, explore, *(policy.fixed() if isinstance(policy, Replayable) else ()))
        if fixed != self._graph_of:
            self._graph, self._graph_of = None, fixed
            if obstacle := self._obstacle(policy):
                say_why_not("rollout step", obstacle)
            else:
                self._graph = self._replayed(policy, explore)
        if self._graph is not None:
            self._steps_there.fill_(self.env_steps)
        return self._graph

    def _obstacle(self, policy: Policy) -> str:
        """Why a step could not be replayed; empty if nothing is known to be in the way."""
        here, there = self._view.get(OBSERVATION).device, self._memory.device
        if here != there:
            return f"battles are on {here} and agents on {there}. Put both on one accelerator."
        if here.type not in GRAPHS:
            return f"there are none on {here.type!r}, but on {', '.join(map(repr, GRAPHS))}."
        if not self.env.replayable:
            return f"{type(self.env).__name__} is not replayable: the host takes part in its steps."
        if not isinstance(policy, Replayable):
            return f"{type(policy).__name__} does not say what a graph would depend on. Give it the method fixed()."
        return ""

    def _replayed(self, policy: Policy, explore: bool) -> ReplayedStep:
        self._memory, self._last_action = self._memory.clone(), self._last_action.clone()
        self._steps_there = torch.zeros((), dtype=torch.int64, device=self._memory.device)
        steps, generators = self._steps_there, [] if self._generator is None else [self._generator]

        def step() -> None:
            _, memory, last_action = self._after_a_step(policy, steps if explore else None)
            self._memory.copy_(memory)
            self._last_action.copy_(last_action)
            steps.add_(self.env.num_envs * self.replicas)

        return ReplayedStep(step, steps.device, generators, "rollout step")

    def _advance(self, policy: Policy, env_steps: int | None) -> None:
        if isinstance(self._recorder, DistantRecorder):
            self._recorder.make_room()
        if self._fused is not None and self._memory is self._fused.memory:
            # The next compiled call writes over them, but the policy that is asked now may keep what it is shown.
            self._memory, self._last_action = self._memory.clone(), self._last_action.clone()
        self._view, self._memory, self._last_action = self._after_a_step(policy, env_steps)
        self._seen_in = self.env

    def _after_a_step(self, policy: Policy, env_steps: Any) -> tuple[TensorDict, Tensor, Tensor]:
        """Play and record a step of every battle; what is then seen, remembered and was done last."""
        observation, action_mask = self._view.get(OBSERVATION), self._view.get(ACTION_MASK)
        here, there = observation.device, self._memory.device
        if here != there:
            observation, action_mask = observation.to(there), action_mask.to(there)
        action, memory = policy.act(
            observation, action_mask, self._last_action, self._memory, env_steps=env_steps, generator=self._generator
        )
        done = action if here == there else action.to(here)
        view = self.env.step(done)
        # Memory and actions change out of place, because both came from the policy and may be its own. In mixed
        # precision a memory that was computed can have another dtype than one that begins.
        if isinstance(self._recorder, DistantRecorder):  # Nobody asks who ended: the answer would have to be awaited.
            self._recorder.record(done, view)
            over = view.get("done").flatten().clone()
            view = self.env.reset(over)
            self._recorder.begin(view, over)
            over = over.to(there)
            memory = torch.where(over[:, None, None], policy.initial_memory(1).to(memory.dtype), memory)
            action = torch.where(over[:, None], NO_ACTION, action)
        elif (ended := self._recorder.record(done, view)) is not None:
            view = self.env.reset(self._recorder.over)
            self._recorder.begin(view, ended)
            memory, action = begin_anew(memory, action, ended, self._fresh_of(policy))
        return view, memory, action

    def _play_one_each(self, policy: Policy) -> TensorDict:
        self._begin(policy)
        waiting = torch.ones(self.env.num_envs, dtype=torch.bool)
        battles, episodes = [], []
        while waiting.any():
            if not self._play_fused(policy, False, 1):
                self._advance(policy, None)
            if (taken := self._recorder.take()) is not None:
                which, played = taken
                first = waiting[which]
                waiting[which] = False
                battles.append(which[first])
                episodes.append(played[first.to(played[MASK].device)])
        together: TensorDict = torch.cat(episodes)
        return together[torch.cat(battles).argsort().to(together[MASK].device)]
