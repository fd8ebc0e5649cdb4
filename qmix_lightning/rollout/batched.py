"""Battles that run side by side in this process."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.spec import ACTION_MASK, NO_ACTION, OBSERVATION, Policy


class BatchedRollout(AbstractRollout):
    """Advances all battles of one environment together; a battle that ends restarts at once, so none waits for another.

    The policy may live on another device than the environment, and calls may be made in inference mode: episodes are
    ordinary tensors, without a graph, on the environment's device.

    Args:
        env: The battles. :meth:`play` seeds and restarts them too, so give evaluation its own.
        seed: Of the exploration.

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
    _memory: Tensor
    _last_action: Tensor

    def __init__(self, env: AbstractEnvironment, *, seed: int = 0) -> None:
        self.env, self.spec, self.seed = env, env.spec, seed
        self.env_steps = self.episodes = 0
        self._recorder = EpisodeRecorder(env.spec, env.num_envs)
        self._playing = False
        self._generator: Generator | None = None
        self._generator_state: Tensor | None = None

    def step(self, policy: Policy, *, explore: bool) -> TensorDict | None:
        """Advance every battle by one step."""
        # Lightning validates in inference mode, whose tensors could not be written to by a later step outside of it.
        with torch.inference_mode(False), torch.no_grad():
            if not self._playing:
                self._begin(policy)
            ended = self._advance(policy, self.env_steps if explore else None)
            self._playing = True
        self.env_steps += self.env.num_envs
        if ended is None:
            return None
        self.episodes += len(ended[0])
        return ended[1]

    def play(self, policy: Policy, episodes: int, *, seed: int) -> TensorDict:
        """Play one fresh greedy episode in every battle, and again until there are enough.

        Each round waits for its longest episode, so that short ones are not preferred. Battles that ended earlier go on
        unrecorded, since an environment advances all of its battles.

        Raises:
            ValueError: If no episode is asked for.
        """
        if episodes < 1:
            raise ValueError(f"BatchedRollout.play needs episodes >= 1, got {episodes}.")
        self._playing = False  # Training, if this environment trains too, starts anew.
        with torch.inference_mode(False), torch.no_grad():
            rounds = []
            for number in range(-(-episodes // self.env.num_envs)):
                # How often a battle restarted while others went on depends on the policy; the next round must not.
                self.env.seed(seed + (number << 32))
                rounds.append(self._play_one_each(policy))
            return torch.cat(rounds)[:episodes]

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the state of the exploration."""
        state = self._generator_state if self._generator is None else self._generator.get_state()
        return {"env_steps": self.env_steps, "episodes": self.episodes, "generator": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting and exploring from a :meth:`state_dict`, with new battles."""
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self._playing, self._generator, self._generator_state = False, None, state["generator"]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, policy: Policy) -> None:
        self._view = self.env.reset()
        self._recorder.begin(self._view)
        self._memory = policy.initial_memory(self.env.num_envs)
        self._last_action = torch.full(self._view[ACTION_MASK].shape[:-1], NO_ACTION, device=self._memory.device)
        if self._generator is None:
            self._generator = Generator(self._memory.device)
            fresh, kept = self._generator.manual_seed(self.seed).get_state(), self._generator_state
            if kept is not None and kept.shape == fresh.shape:
                self._generator.set_state(kept)
            elif kept is not None:  # Of another kind of device, which cannot be taken up.
                self._generator.manual_seed(self.seed + self.env_steps)

    def _advance(self, policy: Policy, env_steps: int | None) -> tuple[Tensor, TensorDict] | None:
        here, there = self._view[OBSERVATION].device, self._memory.device
        action, memory = policy.act(
            self._view[OBSERVATION].to(there),
            self._view[ACTION_MASK].to(there),
            self._last_action,
            self._memory,
            env_steps=env_steps,
            generator=self._generator,
        )
        view = self.env.step(action.to(here))
        ended = self._recorder.record(action.to(here), view)
        if ended is not None:
            which = ended[0]
            restart = torch.zeros(self.env.num_envs, dtype=torch.bool, device=here).index_fill_(0, which, 1)
            view = self.env.reset(restart)
            self._recorder.begin(view, which)
            # Out of place, because both tensors came from the policy and may be its own. In mixed precision a memory
            # that was computed can have another dtype than one that begins.
            memory = memory.index_copy(0, which.to(there), policy.initial_memory(len(which)).to(memory.dtype))
            action = action.index_fill(0, which.to(there), NO_ACTION)
        self._view, self._memory, self._last_action = view, memory, action
        return ended

    def _play_one_each(self, policy: Policy) -> TensorDict:
        self._begin(policy)
        waiting = torch.ones(self.env.num_envs, dtype=torch.bool)
        battles, episodes = [], []
        while waiting.any():
            if (ended := self._advance(policy, None)) is not None:
                which = ended[0].cpu()
                first = waiting[which]
                waiting[which] = False
                battles.append(which[first])
                episodes.append(ended[1][first])
        return torch.cat(episodes)[torch.cat(battles).argsort()]
