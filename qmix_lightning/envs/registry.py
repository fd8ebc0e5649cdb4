"""Environments by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, NamedTuple

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.games.base import AbstractGame, GameFactory

_OWN: Final = "Worlds of your own are named by module and class, e.g. 'my_package.worlds:Corridor'."


class _World(NamedTuple):
    """What plays a task: a class for many episodes side by side, or for one game, and the arguments that name it."""

    made_by: Callable[..., Any]
    named: Mapping[str, str]

    @property
    def is_game(self) -> bool:
        return isinstance(self.made_by, type) and issubclass(self.made_by, AbstractGame)


def names() -> list[str]:
    """List every environment that :func:`make` knows by name, beside modules of PettingZoo and worlds of your own.

    Example:
        >>> "matrix/two_step" in names(), "smac/MMM2" in names()
        (True, True)
    """
    from qmix_lightning.envs.adapters.pettingzoo import MODULES
    from qmix_lightning.envs.adapters.smac import MAPS as SMAC_MAPS
    from qmix_lightning.envs.adapters.smacv2 import MAPS as SMACV2_MAPS
    from qmix_lightning.envs.battle.scenario import map_names

    tasks: dict[str, Any] = {
        "battle": map_names(), "matrix": ("nonmonotonic", "two_step"), "pettingzoo": MODULES,
        "smac": SMAC_MAPS, "smacv2": SMACV2_MAPS,
    }  # fmt: skip
    return sorted(f"{family}/{task}" for family, known in tasks.items() for task in known)


def make(name: str, *, num_envs: int = 1, seed: int = 0, first: int = 0, **options: Any) -> AbstractEnvironment:
    """Make an environment by its name, to be played in this process.

    Args:
        name: Family and task, e.g. ``"battle/3m"``; :func:`names` lists them. A world of your own is named by its
            module and class, ``"my_package.worlds:Corridor"``.
        num_envs: Number B of episodes side by side, at least 1.
        seed: Of everything random in it.
        first: Number of the first of these episodes among those of the seed, so that several batches share a seed;
            without meaning where nothing is random.
        options: Further arguments of the environment's class.

    Returns:
        The environment, with its sizes under ``spec``.

    Raises:
        ValueError: If the name or an option is unknown, there is no episode to play, or something that the world needs
            is not installed.

    Example:
        >>> make("matrix/two_step", num_envs=64).spec.episode_limit
        2
    """
    if num_envs < 1:
        raise ValueError(f"Environment {name!r} needs num_envs >= 1, got {num_envs}.")
    world = _world(name)
    if world.is_game:
        from qmix_lightning.envs.games.batch import GameBatch

        return GameBatch(_game(name, world, options), num_envs, seed, first=first)
    accepted = _refuse_unknown(name, world, options)
    if "first" in accepted:
        options["first"] = first
    environment: AbstractEnvironment = world.made_by(**world.named, num_envs=num_envs, seed=seed, **options)
    return environment


def game(name: str, **options: Any) -> GameFactory | None:
    """What makes one game of a task, to be played in a process of its own.

    Args:
        name: As in :func:`make`.
        options: Further arguments of the game's class.

    Returns:
        A function of a seed, which can be sent to another process; None if the task is not made of single games.

    Raises:
        ValueError: If the name or an option is unknown.

    Example:
        >>> game("battle/3m") is None
        True
        >>> game("smac/3m").func.__name__
        'SmacGame'
    """
    world = _world(name)
    return _game(name, world, options) if world.is_game else None


def needs_processes(name: str) -> bool:
    """Whether games of this task should have a process each: StarCraft II may hang, crash and fill the memory.

    Example:
        >>> needs_processes("smac/3m"), needs_processes("pettingzoo/simple_spread")
        (True, False)
    """
    return name.partition("/")[0] in ("smac", "smacv2")


def _game(name: str, world: _World, options: Mapping[str, Any]) -> GameFactory:
    _refuse_unknown(name, world, options)
    return partial(world.made_by, **world.named, **options)


def _refuse_unknown(name: str, world: _World, options: Mapping[str, Any]) -> list[str]:
    parameters = inspect.signature(world.made_by).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    listed = getattr(world.made_by, "option_names", None)
    accepted = [*(option for option in named if option not in ("map_name", "name", "self")), *(listed or ())]
    # What takes any option without a list hands them on, to what refuses them itself.
    takes_any = listed is None and len(named) < len(parameters)
    for option in options:
        if option not in accepted and not takes_any:
            near = get_close_matches(option, accepted, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{name!r} has no option {option!r}. {hint}It has {', '.join(accepted)}.")
    return accepted


def _world(name: str) -> _World:
    # Imported when asked for: a matrix game should not wait for the simulator's compiler.
    family, _, task = name.partition("/")
    if family == "gymnasium" and task:
        from qmix_lightning.envs.adapters.gymnasium import GymnasiumGame

        return _World(GymnasiumGame, {"name": task})
    if family == "pettingzoo" and "." in task:
        from qmix_lightning.envs.adapters.pettingzoo import PettingZooGame

        return _World(PettingZooGame, {"name": task})
    if ":" in name:
        return _World(_own(name), {})
    if name not in (known := names()):
        same = [full for full in known if full.endswith(f"/{name}")]  # "3m" is "battle/3m"
        near = same or get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known are: {', '.join(known)}."
        raise ValueError(f"Unknown environment {name!r}. {hint} {_OWN}")
    return _known(family, task)


def _known(family: str, task: str) -> _World:
    if family == "battle":
        from qmix_lightning.envs.battle.env import BattleEnvironment

        return _World(BattleEnvironment, {"map_name": task})
    if family == "smac":
        from qmix_lightning.envs.adapters.smac import SmacGame

        return _World(SmacGame, {"map_name": task})
    if family == "smacv2":
        from qmix_lightning.envs.adapters.smacv2 import SmacV2Game

        return _World(SmacV2Game, {"map_name": task})
    if family == "pettingzoo":
        from qmix_lightning.envs.adapters.pettingzoo import PettingZooGame

        return _World(PettingZooGame, {"name": task})
    from qmix_lightning.envs.matrix import MatrixGame, TwoStepGame

    return _World(TwoStepGame if task == "two_step" else MatrixGame, {})


def _own(name: str) -> Any:
    """A class of somebody else's, by module and name."""
    module, _, attribute = name.partition(":")
    try:
        world = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"There is no environment {name!r}: {error}. {_OWN}") from error
    if not (isinstance(world, type) and issubclass(world, AbstractGame | AbstractEnvironment)):
        raise ValueError(f"{name!r} is neither an AbstractGame nor an AbstractEnvironment, but {world!r}. {_OWN}")
    return world
