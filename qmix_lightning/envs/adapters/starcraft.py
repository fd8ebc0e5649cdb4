"""What battles in StarCraft II have in common, whichever of oxwhirl's packages plays them."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.adapters.installation import Family, game_home, installed_versions, refuse_incomplete
from qmix_lightning.envs.games.base import AbstractGame, GameFaultError, Sight, Turn
from qmix_lightning.spec import TaskSpec

_LAUNCH_SECONDS: Final = 170
"""How long pysc2 waits for the game, to begin with and for each answer. Whoever plays has shorter deadlines of his own
for steps; those of pysc2 would launch the game again and pass a crash for the end of an episode."""


class AbstractStarCraftGame(AbstractGame):
    """A battle in StarCraft II, by ``StarCraft2Env`` of package ``smac`` or ``smacv2``, left as they are.

    What the packages pass over in silence is a fault here: a game that crashed in mid-episode, or units that are left
    of the episode before. They start the game again by themselves then, and return an episode that ended without
    reward; whoever catches the fault makes a new object instead, whose scale of rewards is right again.

    A battle that runs out of time is cut off, not decided. Only one of the two packages can be used in a process.

    Args:
        seed: Of the game, which takes it at its launch only.
        map_file: Name of the map's file.
        instead: An environment that needs no StarCraft II, to be recommended.
        game_version: Version of the game, e.g. ``"4.10.0"``; None is the newest that is installed.
        replay_folder: Where the game's own replay goes, one file for all battles from launch to close; None saves none.
        sort_enemies: Whether enemies are numbered by type and place at the start, not as the game lists them.
        limit_terminates: Whether a battle that runs out of time counts as decided, as in PyMARL.
        options: Further arguments of the package's environment.

    Raises:
        ValueError: If a part of the installation is missing, an option is unknown, or there is no such version.
    """

    family: ClassVar[Family]
    unhurt_at_first: ClassVar[bool]
    """Whether all units have their full health when they are first seen."""
    info_keys = ("battle_won", "dead_allies", "dead_enemies")

    def __init__(
        self,
        seed: int,
        map_file: str,
        instead: str,
        *,
        game_version: str | None,
        replay_folder: str | None,
        sort_enemies: bool,
        limit_terminates: bool,
        options: Mapping[str, Any],
    ) -> None:
        self._env: Any = None
        refuse_incomplete(self.family, map_file, game_version, instead)
        self._map_file, self._game_version = map_file, game_version
        self._replay_folder = Path(replay_folder).absolute() if replay_folder else None
        self._sort_enemies, self._limit_terminates = sort_enemies, limit_terminates
        self._prepare()
        # Of games that end within the same second, each needs a name of its own.
        name = f"{self._name().replace('/', '-')}-{seed}"
        replays = {"replay_dir": str(self._replay_folder), "replay_prefix": name} if self._replay_folder else {}
        self._env = self._make({"seed": seed, "game_version": game_version, **replays, **options})
        self._game = self._inner(self._env)
        self._game.full_restart = self._refuse_restart
        self._fresh, self._tags = False, frozenset[int]()
        told = self._env.get_env_info()
        self.spec = TaskSpec(
            self._name(),
            n_agents=told["n_agents"],
            n_actions=told["n_actions"],
            observation_size=int(told["obs_shape"]),
            state_size=int(told["state_shape"]),
            episode_limit=told["episode_limit"],
            no_op_is_final=True,
        )

    @abstractmethod
    def _name(self) -> str:
        """How the registry calls the task."""

    @abstractmethod
    def _make(self, options: dict[str, Any]) -> Any:
        """Import the package and make its environment, which does not launch the game yet."""

    def _inner(self, env: Any) -> Any:
        """The ``StarCraft2Env`` within what :meth:`_make` returned."""
        return env

    def reset(self, seed: int) -> None:
        """Start a battle, launching the game if it has not been; see :class:`AbstractGame`."""
        if self._fresh:
            # The packages kill and respawn by the units that they last saw: twice in a row goes wrong.
            return
        self._env.reset()
        game = self._game
        # Left at 0 until an episode has ended, it would have an episode that was broken off launch the game again.
        game._episode_count = max(1, game._episode_count)
        self._refuse_stale_units()
        game.max_reward = self._scale()
        if self._sort_enemies:
            enemies = sorted(game.enemies.values(), key=attrgetter("unit_type", "pos.x", "pos.y"))
            game.enemies = dict(enumerate(enemies))
        self._fresh = True

    def step(self, action: NDArray[np.int64]) -> Turn:
        """Play 8 game loops; see :class:`AbstractGame`."""
        timeouts = self._game.timeouts
        reward, over, info = self._env.step(action.tolist())
        if "battle_won" not in info:
            raise GameFaultError("crash", "the package took it for the end of an episode")
        self._fresh = False
        timed_out = self._game.timeouts > timeouts
        decided = over and (not timed_out or self._limit_terminates)
        return Turn(float(reward), decided, over, {key: float(info[key]) for key in self.info_keys})

    def show(self, sight: Sight) -> None:
        """Write down what the package tells."""
        sight.observation[:] = self._env.get_obs()
        sight.action_mask[:] = self._env.get_avail_actions()
        sight.state[:] = self._env.get_state()

    def versions(self) -> dict[str, str]:
        """Builds, commits, and the map's checksum."""
        return installed_versions(self.family, game_home(), self._map_file, self._game_version)

    def close(self) -> None:
        """Save the replay, if it was asked for, and end the game."""
        env, self._env = self._env, None
        if env is None or self._game._sc2_proc is None:
            return
        if self._replay_folder is not None:
            # A game that is gone has nothing to save, and must be ended all the same.
            with suppress(Exception):
                env.save_replay()
        env.close()

    def _prepare(self) -> None:
        """Make pysc2 importable, and let it wait for no longer than we do."""
        from qmix_lightning.envs.adapters.protobuf import import_protocol

        import_protocol()
        from absl import flags
        from pysc2 import run_configs

        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["qmix"])
        flags.FLAGS["sc2_timeout"].value = _LAUNCH_SECONDS
        try:
            run_configs.get(version=self._game_version)
        except ValueError as error:
            raise ValueError(f"game_version: {error}") from error

    def _refuse_restart(self) -> None:
        """What the package calls in place of its own restart, while it handles what went wrong."""
        error = sys.exc_info()[1]
        reason = "protocol error" if type(error).__name__ == "ProtocolError" else "crash"
        raise GameFaultError(reason, str(error) if error is not None else "the package wanted to start the game anew")

    def _refuse_stale_units(self) -> None:
        game = self._game
        expected, came = (game.n_agents, game.n_enemies), (len(game.agents), len(game.enemies))
        if came != expected:
            raise GameFaultError("stale units", f"expected {expected} agents and enemies, got {came}")
        units = [*game.agents.values(), *game.enemies.values()]
        hurt = sum(not self._is_sound(unit) for unit in units)
        tags = frozenset(unit.tag for unit in units)
        known = len(tags & self._tags)
        if hurt or known:
            raise GameFaultError("stale units", f"of {len(units)}, {hurt} are hurt and {known} of the battle before")
        self._tags = tags
        if not all(map(any, self._env.get_avail_actions())):
            raise GameFaultError("stale units", "an agent has no legal action")

    def _is_sound(self, unit: Any) -> bool:
        if not self.unhurt_at_first:
            return bool(unit.health > 0)
        return bool(unit.health == unit.health_max and unit.shield == unit.shield_max)

    def _scale(self) -> float:
        """What SMAC divides rewards by: it adds the enemies' health each time that it looks for them at the start."""
        game = self._game
        health = sum(unit.health_max + unit.shield_max for unit in game.enemies.values())
        return float(game.n_enemies * game.reward_death_value + game.reward_win + health)


def refuse_unknown(options: Mapping[str, Any], environment: Callable[..., Any], name: str) -> None:
    """Say which options there are, if one is not among them.

    Args:
        options: Names and values.
        environment: What takes them.
        name: What a user calls it.

    Raises:
        ValueError: If one is unknown.
    """
    known = [option for option in inspect.signature(environment).parameters if option != "self"]
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{name!r} has no option {option!r}. {hint}It has {', '.join(known)}.")
