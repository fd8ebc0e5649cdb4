"""Worlds and policies whose numbers say where they came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.spec import ACTION_MASK, NO_ACTION, OBSERVATION, STATE, TaskSpec


class CountingEnv(AbstractEnvironment):
    """Observation ``[episode, step, agent]``, state ``[battle, episode, step]``, reward the step.

    Battle b plays its e-th episode for ``1 + (7 b + 3 e + seed) mod limit`` steps; at the limit it is cut off. Of the
    actions, ``1 + (step + agent) mod (A - 1)`` is illegal. Odd episodes are won, at their last step.
    """

    info_keys = ("battle_won", "dead_allies")

    def __init__(
        self, num_envs: int = 4, *, n_agents: int = 3, n_actions: int = 4, limit: int = 5, seed: int = 0
    ) -> None:
        self.spec = TaskSpec("fake/counting", n_agents, n_actions, 3, 3, limit)
        self.num_envs = num_envs
        self._memory = TensorDict(
            {
                OBSERVATION: torch.zeros(num_envs, n_agents, 3),
                ACTION_MASK: torch.ones(num_envs, n_agents, n_actions, dtype=torch.bool),
                STATE: torch.zeros(num_envs, 3),
                "reward": torch.zeros(num_envs, 1),
                "done": torch.zeros(num_envs, 1, dtype=torch.bool),
                "terminated": torch.zeros(num_envs, 1, dtype=torch.bool),
                ("info", "battle_won"): torch.zeros(num_envs, 1, dtype=torch.bool),
                ("info", "dead_allies"): torch.zeros(num_envs, 1),
            },
            [num_envs],
        )
        self._battle, self._agent = torch.arange(num_envs), torch.arange(n_agents)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self._seed = seed
        self._episode = torch.full((self.num_envs,), -1)
        self._step = torch.zeros(self.num_envs, dtype=torch.int64)

    def length(self, battle: Tensor, episode: Tensor) -> Tensor:
        return 1 + (7 * battle + 3 * episode + self._seed) % self.spec.episode_limit

    def reset(self, which: Tensor | None = None) -> TensorDict:
        which = torch.ones(self.num_envs, dtype=torch.bool) if which is None else which
        self._episode += which
        self._step[which] = 0
        return self._look().select("agents", "state")

    def step(self, action: Tensor) -> TensorDict:
        legal = (action >= 0) & (action < self.spec.n_actions)
        legal &= self._memory[ACTION_MASK].gather(-1, action.clamp(0, self.spec.n_actions - 1)[..., None])[..., 0]
        if not legal.all():
            episode, agent = (~legal).nonzero()[0].tolist()
            raise ValueError(f"Episode {episode}, agent {agent}: illegal action {int(action[episode, agent])}.")
        memory = self._memory
        memory["reward"][:, 0] = self._step.float()
        self._step += 1
        done = self._step == self.length(self._battle, self._episode)
        memory["done"][:, 0] = done
        memory["terminated"][:, 0] = done & (self._step < self.spec.episode_limit)
        memory["info", "battle_won"][:, 0] = done & (self._episode % 2 == 1)
        memory["info", "dead_allies"][:, 0] = self._step.float()
        return self._look()

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "episode": self._episode.clone(), "step": self._step.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["step"]) != self.num_envs:
            raise ValueError(f"Expected {self.num_envs} battles, got {len(state['step'])}.")
        self._seed, self._episode, self._step = state["seed"], state["episode"].clone(), state["step"].clone()
        self._look()

    def _look(self) -> TensorDict:
        # Overwrites what was handed out before, as the contract allows.
        memory = self._memory
        memory[OBSERVATION][..., 0] = self._episode[:, None].float()
        memory[OBSERVATION][..., 1] = self._step[:, None].float()
        memory[OBSERVATION][..., 2] = self._agent.float()
        memory[STATE][:] = torch.stack([self._battle, self._episode, self._step], -1).float()
        illegal = 1 + (self._step[:, None] + self._agent) % (self.spec.n_actions - 1)
        memory[ACTION_MASK].fill_(True).scatter_(-1, illegal[..., None], False)
        return memory


class TamperedEnv(AbstractEnvironment):
    """Another environment, with what it says and hears changed on the way to break one clause of the contract."""

    def __init__(
        self,
        env: AbstractEnvironment,
        *,
        viewed: Callable[[TensorDict], TensorDict] = lambda view: view,
        stepped: Callable[[TensorDict], TensorDict] = lambda outcome: outcome,
        act: Callable[[Tensor], Tensor] = lambda action: action,
        which: Callable[[Tensor | None], Tensor | None] = lambda which: which,
        seed: Callable[[int], int] = lambda seed: seed,
    ) -> None:
        self._env, self._viewed, self._stepped, self._act, self._which, self._seed = (
            env,
            viewed,
            stepped,
            act,
            which,
            seed,
        )
        self.spec, self.num_envs, self.info_keys = env.spec, env.num_envs, env.info_keys

    def reset(self, which: Tensor | None = None) -> TensorDict:
        return self._viewed(self._env.reset(self._which(which)).clone())

    def step(self, action: Tensor) -> TensorDict:
        return self._stepped(self._env.step(self._act(action)).clone())

    def seed(self, seed: int) -> None:
        self._env.seed(self._seed(seed))


class CountingPolicy:
    """Remembers how many steps its battle lasts, and insists that memory and last action are those of this episode.

    Plays the legal action with the number ``(episode + step + agent) mod (A - 1)``, or told ``env_steps`` a random one.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.calls: list[int | None] = []

    def initial_memory(self, battles: int) -> Tensor:
        # Expanded: nobody may write into it.
        return torch.zeros(1, 1, 1).expand(battles, self.spec.n_agents, 1)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.calls.append(env_steps)
        step = observation[..., 1]
        assert torch.equal(memory[..., 0], step), "memory of another episode"
        assert torch.equal(last_action == NO_ACTION, step == 0), "last action of another episode"
        assert not torch.is_grad_enabled()
        if env_steps is not None:
            assert generator is not None
            keys = torch.rand(action_mask.shape, generator=generator)
        else:
            wanted = observation.sum(-1).long() % (self.spec.n_actions - 1)
            keys = (action_mask.cumsum(-1) == wanted[..., None] + 1).float()
        return keys.masked_fill(~action_mask, -1.0).argmax(-1), memory + 1
