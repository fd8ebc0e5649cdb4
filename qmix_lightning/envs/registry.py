"""Environments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from qmix_lightning.envs.base import AbstractEnvironment


def names() -> list[str]:
    """List every environment that :func:`make` knows.

    Example:
        >>> "matrix/two_step" in names()
        True
    """
    from qmix_lightning.envs.battle.scenario import map_names

    return sorted(["matrix/nonmonotonic", "matrix/two_step", *(f"battle/{name}" for name in map_names())])


def make(name: str, *, num_envs: int = 1, seed: int = 0, first: int = 0, **options: Any) -> AbstractEnvironment:
    """Make an environment by its name.

    Args:
        name: Family and task, e.g. ``"battle/3m"``; :func:`names` lists them.
        num_envs: Number B of episodes side by side, at least 1.
        seed: Of everything random in it.
        first: Number of the first of these episodes among those of the seed, so that several batches share a seed;
            without meaning where nothing is random.
        options: Further arguments of the environment's class.

    Returns:
        The environment, with its sizes under ``spec``.

    Raises:
        ValueError: If the name or an option is unknown, or there is no episode to play.

    Example:
        >>> make("matrix/two_step", num_envs=64).spec.episode_limit
        2
    """
    if num_envs < 1:
        raise ValueError(f"Environment {name!r} needs num_envs >= 1, got {num_envs}.")
    if name not in (known := names()):
        same = [full for full in known if full.endswith(f"/{name}")]  # "3m" is "battle/3m"
        near = same or get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"Unknown environment {name!r}. {hint}Known are: {', '.join(known)}.")
    family, _, task = name.partition("/")
    environment = _class_of(family, task)
    arguments = [task] if family == "battle" else []
    named = [p.name for p in inspect.signature(environment).parameters.values() if p.kind is not p.VAR_KEYWORD]
    accepted = [
        *(name for name in named if name not in ("map_name", "name")),
        *getattr(environment, "option_names", ()),
    ]
    for option in options:
        if option not in accepted:
            near = get_close_matches(option, accepted, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{name!r} has no option {option!r}. {hint}It has {', '.join(accepted)}.")
    if "first" in accepted:
        options["first"] = first
    return environment(*arguments, num_envs=num_envs, seed=seed, **options)


def _class_of(family: str, task: str) -> Callable[..., AbstractEnvironment]:
    # Imported when asked for: a matrix game should not wait for the simulator's compiler.
    if family == "battle":
        from qmix_lightning.envs.battle.env import BattleEnvironment

        return BattleEnvironment
    from qmix_lightning.envs.matrix import MatrixGame, TwoStepGame

    return TwoStepGame if task == "two_step" else MatrixGame
