"""Gymnasium's worlds whose actions and observations are tuples, one entry an agent, like level-based foraging."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.games.base import AbstractGame, Sight, Turn
from qmix_lightning.spec import TaskSpec


class GymnasiumGame(AbstractGame):
    """A world of Gymnasium's interface for several agents, who share what they earn.

    The state is all observations in a row. Action masks are taken from ``info["action_mask"]``, ``[N, A]``, if it is
    there. An episode that is over at its limit counts as cut off by default, whatever the world says: many, level-based
    foraging among them, report the limit as an end.

    Args:
        seed: Unused, since each episode has its own.
        name: What ``gymnasium.make`` takes, with the module that registers it, e.g.
            ``"lbforaging:Foraging-8x8-2p-2f-coop-v3"``.
        episode_limit: Steps after which an episode is cut off; None takes the world's own.
        shared_reward: What the team earns: the "sum" or the "mean" of what its agents do.
        limit_terminates: Whether an episode that runs out of time counts as decided, as foraging itself has it.
        options: Further arguments of ``gymnasium.make``.

    Raises:
        ValueError: If there is no such world, it is for one agent, it cannot be cut off, or an action is not discrete.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        name: str = "lbforaging:Foraging-8x8-2p-2f-coop-v3",
        episode_limit: int | None = None,
        shared_reward: str = "sum",
        limit_terminates: bool = False,
        **options: Any,
    ) -> None:
        if shared_reward not in ("mean", "sum"):
            raise ValueError(f"Expected shared_reward 'sum' or 'mean', got {shared_reward!r}.")
        self._world, self._limit_terminates = _make(name, options), limit_terminates
        spaces = getattr(self._world.action_space, "spaces", None)
        if not spaces or any(type(space).__name__ != "Discrete" for space in spaces):
            raise ValueError(
                f"gymnasium/{name}: expected a tuple of discrete actions, one an agent, got {self._world.action_space}."
            )
        self._actions, self._average = [int(space.n) for space in spaces], shared_reward == "mean"
        own = getattr(self._world.spec, "max_episode_steps", None)
        limit = episode_limit or own or getattr(self._world.unwrapped, "_max_episode_steps", None)
        if limit is None:
            raise ValueError(f"gymnasium/{name} has no limit of its own. Set the option episode_limit.")
        self._limit, self._steps = int(limit), 0
        self._seen, self._info = self._world.reset(seed=seed)
        sizes = [np.asarray(seen).size for seen in self._seen]
        self.spec = TaskSpec(
            f"gymnasium/{name}",
            n_agents=len(sizes),
            n_actions=max(self._actions),
            observation_size=max(sizes),
            state_size=max(sizes) * len(sizes),
            episode_limit=self._limit,
        )

    def reset(self, seed: int) -> None:
        """Start a new episode; see :class:`AbstractGame`."""
        self._seen, self._info = self._world.reset(seed=seed)
        self._steps = 0

    def step(self, action: NDArray[np.int64]) -> Turn:
        """Let all agents act; see :class:`AbstractGame`."""
        self._seen, rewards, terminated, truncated, self._info = self._world.step(tuple(action.tolist()))
        self._steps += 1
        reward = float(np.mean(rewards) if self._average else np.sum(rewards))
        over = bool(np.all(terminated) or np.all(truncated))
        in_time = self._steps < self._limit
        decided = bool(np.all(terminated)) if in_time else self._limit_terminates
        return Turn(reward, decided, over)

    def show(self, sight: Sight) -> None:
        """Write down what the agents see."""
        sight.observation[:] = 0.0
        for number, seen in enumerate(self._seen):
            flat = np.asarray(seen, dtype=np.float32).ravel()
            sight.observation[number, : len(flat)] = flat
        sight.state[:] = sight.observation.ravel()
        told = self._info.get("action_mask") if isinstance(self._info, Mapping) else None
        for number, count in enumerate(self._actions):
            sight.action_mask[number] = np.arange(sight.action_mask.shape[1]) < count
            if told is not None:
                sight.action_mask[number, :count] &= np.asarray(told[number], dtype=np.bool_)

    def versions(self) -> dict[str, str]:
        """The packages' versions."""
        from importlib.metadata import packages_distributions, version

        module = type(self._world.unwrapped).__module__.partition(".")[0]
        names = {"gymnasium", *packages_distributions().get(module, ())}
        return {name: version(name) for name in sorted(names)}

    def close(self) -> None:
        """Close the world."""
        self._world.close()


def _make(name: str, options: Mapping[str, Any]) -> Any:
    package = name.partition(":")[0] if ":" in name else "gymnasium"
    if importlib.util.find_spec("gymnasium") is None or importlib.util.find_spec(package) is None:
        raise ValueError(
            f"gymnasium/{name} needs packages gymnasium and {package}. Install them: pip install"
            " 'qmix-lightning[pettingzoo]', which has lbforaging, or the world's own distribution."
        )
    import gymnasium

    try:
        # Gymnasium's checker knows single agents only.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.Error as error:
        raise ValueError(f"gymnasium/{name}: {error}") from error
