"""PettingZoo's parallel environments with discrete actions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.games.base import AbstractGame, Sight, Turn
from qmix_lightning.spec import TaskSpec

MODULES: Final = {
    "simple_spread": "mpe2.simple_spread_v3",
    "simple_reference": "mpe2.simple_reference_v3",
    "simple_speaker_listener": "mpe2.simple_speaker_listener_v4",
}
"""Cooperative worlds by short names, and the modules that hold their ``parallel_env``."""


class PettingZooGame(AbstractGame):
    """A world of PettingZoo's parallel interface, whose agents share what they earn.

    Observations are flattened, and filled up with zeros to the longest; agents with fewer actions cannot take those
    that others have. An agent that left sees zeros and can only take action 0. Action masks are taken from a
    dictionary observation's ``"action_mask"`` (with ``"observation"`` beside it), or else from ``info``.

    Args:
        seed: Unused, since each episode has its own.
        name: One of :data:`MODULES`, or the module with a ``parallel_env``, e.g. ``"mpe2.simple_tag_v3"``.
        episode_limit: Steps after which an episode is cut off; None takes the world's own ``max_cycles``.
        state: Whether the state is what the world's ``state()`` tells ("world") or all observations in a row
            ("observations"); None prefers the world's.
        shared_reward: What the team earns: the "mean" or the "sum" of what its agents do.
        options: Arguments of ``parallel_env``.

    Raises:
        ValueError: If there is no such world, it cannot be cut off, or an action is not discrete.

    Source:
        Terry et al., "PettingZoo: Gym for Multi-Agent Reinforcement Learning", 2021.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        name: str = "simple_spread",
        episode_limit: int | None = None,
        state: str | None = None,
        shared_reward: str = "mean",
        **options: Any,
    ) -> None:
        if shared_reward not in ("mean", "sum") or state not in (None, "world", "observations"):
            raise ValueError(
                "Expected shared_reward 'mean' or 'sum' and state 'world', 'observations' or none, got"
                f" {shared_reward!r} and {state!r}."
            )
        self._world = _module(name).parallel_env(**options)
        self._agents = list(self._world.possible_agents)
        self._average = shared_reward == "mean"
        limit = episode_limit or _own_limit(self._world, options)
        if limit is None:
            raise ValueError(f"pettingzoo/{name} has no max_cycles. Set the option episode_limit.")
        self._actions = [_count(self._world.action_space(agent), name, agent) for agent in self._agents]
        self._seen: dict[Any, Any] = {}
        self._info: Mapping[Any, Any] = {}
        self._living: set[Any] = set()
        self._start(seed)
        sizes = [len(self._observation(agent)) for agent in self._agents]
        self._asks_world = state == "world" or (state is None and _tells_state(self._world))
        state_size = np.asarray(self._world.state()).size if self._asks_world else max(sizes) * len(sizes)
        self.spec = TaskSpec(
            f"pettingzoo/{name}",
            n_agents=len(self._agents),
            n_actions=max(self._actions),
            observation_size=max(sizes),
            state_size=int(state_size),
            episode_limit=limit,
        )

    def reset(self, seed: int) -> None:
        """Start a new episode; see :class:`AbstractGame`."""
        self._start(seed)

    def step(self, action: NDArray[np.int64]) -> Turn:
        """Let the agents that are there act; see :class:`AbstractGame`."""
        chosen = {agent: int(action[number]) for number, agent in enumerate(self._agents) if agent in self._living}
        self._seen, rewards, terminations, truncations, self._info = self._world.step(chosen)
        earned = [float(rewards.get(agent, 0.0)) for agent in chosen]
        self._living &= set(self._world.agents)
        over = not self._living
        # It ran out of time if anybody was there to the end who could have gone on.
        cut_off = over and any(truncations.get(agent) and not terminations.get(agent) for agent in chosen)
        reward = sum(earned) / len(self._agents) if self._average else sum(earned)
        return Turn(reward, over and not cut_off, over)

    def show(self, sight: Sight) -> None:
        """Write down what the agents see."""
        sight.observation[:] = 0.0
        sight.action_mask[:] = False
        for number, agent in enumerate(self._agents):
            if agent in self._living:
                seen = self._observation(agent)
                sight.observation[number, : len(seen)] = seen
                sight.action_mask[number, : self._actions[number]] = self._legal(agent)
        # Nobody who left can do anything, but something must be legal.
        sight.action_mask[~sight.action_mask.any(-1), 0] = True
        if self._asks_world:
            sight.state[:] = np.asarray(self._world.state(), dtype=np.float32).ravel()
        else:
            sight.state[:] = sight.observation.ravel()

    def versions(self) -> dict[str, str]:
        """The packages' versions."""
        from importlib.metadata import packages_distributions, version

        module = type(self._world.unwrapped).__module__.partition(".")[0]
        names = {"pettingzoo", *packages_distributions().get(module, ())}
        return {name: version(name) for name in sorted(names)}

    def close(self) -> None:
        """Close the world."""
        self._world.close()

    def _start(self, seed: int) -> None:
        self._seen, self._info = self._world.reset(seed=seed)
        self._living = set(self._world.agents)

    def _observation(self, agent: Any) -> NDArray[np.float32]:
        seen = self._seen[agent]
        if isinstance(seen, Mapping) and "observation" in seen:
            seen = seen["observation"]
        return np.asarray(seen, dtype=np.float32).ravel()

    def _legal(self, agent: Any) -> Any:
        for told in (self._seen[agent], self._info.get(agent, {})):
            if isinstance(told, Mapping) and "action_mask" in told:
                return np.asarray(told["action_mask"], dtype=np.bool_)
        return True


def _module(name: str) -> Any:
    path = MODULES.get(name, name)
    package = path.partition(".")[0]
    if "." not in path:
        near = get_close_matches(name, MODULES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"Unknown world 'pettingzoo/{name}'. {hint}Known are {', '.join(MODULES)}, and modules.")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        ours = path in MODULES.values()
        cure = (
            "Install it: pip install 'qmix-lightning[pettingzoo]'"
            if ours
            else f"Install the distribution with {package}"
        )
        raise ValueError(f"pettingzoo/{name} needs module {path}: {error}. {cure}.") from error
    if not hasattr(module, "parallel_env"):
        raise ValueError(f"Module {path} has no parallel_env. Only PettingZoo's parallel interface is played.")
    return module


def _own_limit(world: Any, options: Mapping[str, Any]) -> int | None:
    if "max_cycles" in options:
        return int(options["max_cycles"])
    inner = getattr(world.unwrapped, "aec_env", world).unwrapped
    limit = getattr(inner, "max_cycles", None)
    return None if limit is None else int(limit)


def _count(space: Any, name: str, agent: Any) -> int:
    if type(space).__name__ != "Discrete" or getattr(space, "start", None):
        raise ValueError(f"pettingzoo/{name}: expected discrete actions from 0 on of agent {agent}, got {space}.")
    return int(space.n)


def _tells_state(world: Any) -> bool:
    try:
        world.state()
    except (NotImplementedError, AttributeError):
        return False
    return True
