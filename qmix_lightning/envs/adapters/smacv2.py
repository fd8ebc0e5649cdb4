"""SMACv2's battles in StarCraft II: teams and places are drawn anew for each."""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np

from qmix_lightning.envs.adapters.starcraft import AbstractStarCraftGame, refuse_unknown

_TEAMS: Final = {
    "protoss": (("stalker", "zealot", "colossus"), (0.45, 0.45, 0.1), ()),
    "terran": (("marine", "marauder", "medivac"), (0.45, 0.45, 0.1), ("medivac",)),
    "zerg": (("zergling", "baneling", "hydralisk"), (0.45, 0.1, 0.45), ("baneling",)),
}
"""Of each race the types of units, their weights, and those of which a team may not consist alone."""

_SIZES: Final = ((5, 5), (10, 10), (20, 20), (10, 11), (20, 23))

MAPS: Final = tuple(sorted(f"{race}_{ours}_vs_{theirs}" for race in _TEAMS for ours, theirs in _SIZES))
"""SMACv2's tasks: ``<race>_<agents>_vs_<enemies>``."""

MAP_FILE: Final = "32x32_flat"
"""The map of all of them."""


class SmacV2Game(AbstractStarCraftGame):
    """A battle of SMACv2 in StarCraft II, by oxwhirl's ``smacv2``, with the settings of its paper.

    Args:
        seed: Of the teams that are drawn, and of the game, which takes it at its launch only.
        map_name: ``<race>_<agents>_vs_<enemies>``.
        game_version: Version of the game, e.g. ``"4.10.0"``; None is the newest that is installed.
        replay_folder: Where the game's own replay goes, one file for all battles from launch to close; None saves none.
        sort_enemies: Whether enemies are numbered by type and place at the start, not as the game lists them.
        limit_terminates: Whether a battle that runs out of time counts as decided, as in PyMARL.
        options: Further arguments of ``smacv2``'s ``StarCraft2Env``, e.g. ``conic_fov``.

    Raises:
        ValueError: If a part of the installation is missing, or an option is unknown.

    Source:
        Ellis et al., "SMACv2: An Improved Benchmark for Cooperative Multi-Agent Reinforcement Learning", 2023.
    """

    family = "smacv2"
    # Units are made one by one, perhaps beside an enemy.
    unhurt_at_first = False

    def __init__(
        self,
        seed: int = 0,
        *,
        map_name: str = "terran_5_vs_5",
        game_version: str | None = None,
        replay_folder: str | None = None,
        sort_enemies: bool = False,
        limit_terminates: bool = False,
        **options: Any,
    ) -> None:
        self._map_name = map_name
        super().__init__(
            seed,
            MAP_FILE,
            f"battle/{map_name}",
            game_version=game_version,
            replay_folder=replay_folder,
            sort_enemies=sort_enemies,
            limit_terminates=limit_terminates,
            options=options,
        )

    def reset(self, seed: int) -> None:
        """Draw teams and places by the seed, and start a battle."""
        random.seed(seed)
        for number, distribution in enumerate(self._env.env_key_to_distribution_map.values()):
            _reseed(distribution, seed + number)
        super().reset(seed)

    def _name(self) -> str:
        return f"smacv2/{self._map_name}"

    def _inner(self, env: Any) -> Any:
        return env.env

    def _make(self, options: dict[str, Any]) -> Any:
        from smacv2.env import StarCraft2Env
        from smacv2.env.starcraft2.wrapper import StarCraftCapabilityEnvWrapper

        refuse_unknown(options, StarCraft2Env.__init__, self._name())
        race, ours, _, theirs = self._map_name.split("_")
        defaults = {
            "obs_own_pos": True,
            "use_unit_ranges": True,
            "min_attack_range": 2,
            "capability_config": capabilities(race, int(ours), int(theirs)),
        }
        return StarCraftCapabilityEnvWrapper(map_name=f"10gen_{race}", **(defaults | options))


def _reseed(distribution: Any, seed: int) -> None:
    """The package's distributions have generators of their own, and some are made of others."""
    if hasattr(distribution, "rng"):
        distribution.rng = np.random.default_rng(seed)
    parts = [part for part in vars(distribution).values() if hasattr(part, "generate")]
    for number, part in enumerate(parts, 1):
        _reseed(part, seed + 1_000 * number)


def capabilities(race: str, n_agents: int, n_enemies: int) -> dict[str, Any]:
    """What ``smacv2`` draws the teams and their places from.

    Example:
        >>> capabilities("zerg", 10, 11)["team_gen"]["weights"]
        [0.45, 0.1, 0.45]
    """
    types, weights, exceptions = _TEAMS[race]
    return {
        "n_units": n_agents,
        "n_enemies": n_enemies,
        "team_gen": {
            "dist_type": "weighted_teams",
            "unit_types": list(types),
            "weights": list(weights),
            **({"exception_unit_types": list(exceptions)} if exceptions else {}),
            "observe": True,
        },
        "start_positions": {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32},
    }
