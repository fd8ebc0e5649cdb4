"""Scripted teams by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from qmix_lightning.envs.battle.scenario import Scenario, load_scenario
from qmix_lightning.envs.battle.scripted.closest_target import ClosestTarget
from qmix_lightning.envs.battle.scripted.focus_fire import FocusFire
from qmix_lightning.envs.battle.scripted.hit_and_run import HitAndRun
from qmix_lightning.envs.battle.scripted.random_play import RandomPlay
from qmix_lightning.envs.battle.scripted.sight import Eyes
from qmix_lightning.envs.battle.scripted.stop import Stop
from qmix_lightning.spec import Policy, TaskSpec

SCRIPTS: Final[dict[str, Callable[[Eyes], Policy]]] = {
    "random": RandomPlay,
    "stop": Stop,
    "closest": ClosestTarget,
    "focus": FocusFire,
    "hit-and-run": HitAndRun,
}
"""The scripted teams, the weakest first, as far as one can say."""


def scripted_policy(name: str, spec: TaskSpec, *, scenario: Scenario | None = None, **options: Any) -> Policy:
    """Make a scripted team for a map.

    Args:
        name: One of :data:`SCRIPTS`.
        spec: Of the environment, whose name ends in the map's, e.g. ``"battle/3m"``.
        scenario: The map itself, where it is one's own.
        options: Those that the environment was made with.

    Raises:
        ValueError: If there is no such team or map, or the options are not those of the environment.

    Example:
        >>> import torch
        >>> from qmix_lightning.envs.registry import make
        >>> env = make("battle/MMM2", num_envs=2)
        >>> policy = scripted_policy("focus", env.spec)
        >>> view = env.reset()["agents"]
        >>> nothing_yet = torch.full((2, 10), -1)
        >>> policy.act(view["observation"], view["action_mask"], nothing_yet, policy.initial_memory(2))[0].shape
        torch.Size([2, 10])
    """
    if name not in SCRIPTS:
        near = get_close_matches(name, SCRIPTS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"There is no scripted team {name!r}. {hint}Known are {', '.join(SCRIPTS)}.")
    eyes = Eyes(scenario or load_scenario(spec.name.rpartition("/")[2]), options)
    if (sizes := (eyes.observation_size, eyes.n_actions)) != (spec.observation_size, spec.n_actions):
        raise ValueError(
            f"Scripted teams know what observations mean from the options of the environment. With {options} agents of"
            f" {spec.name} see {sizes[0]} numbers and have {sizes[1]} actions, but its spec says"
            f" {spec.observation_size} and {spec.n_actions}. Pass the options that it was made with."
        )
    return SCRIPTS[name](eyes)
