"""SMAC's battles in StarCraft II itself."""

from __future__ import annotations

from typing import Any, Final

from qmix_lightning.envs.adapters.starcraft import AbstractStarCraftGame, refuse_unknown

MAPS: Final = (
    "10m_vs_11m", "1c3s5z", "25m", "27m_vs_30m", "2c_vs_64zg", "2m_vs_1z", "2s3z", "2s_vs_1sc", "3m", "3s5z",
    "3s5z_vs_3s6z", "3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z", "8m", "8m_vs_9m", "MMM", "MMM2",
    "bane_vs_bane", "corridor", "so_many_baneling",
)  # fmt: skip
"""SMAC's maps."""


class SmacGame(AbstractStarCraftGame):
    """A battle of SMAC in StarCraft II, by oxwhirl's ``smac``; ``battle/…`` is the same in the embedded simulator.

    Args:
        seed: Of the game, which takes it at its launch only.
        map_name: One of SMAC's maps.
        game_version: Version of the game, e.g. ``"4.10.0"``; None is the newest that is installed. Results of different
            versions cannot be compared.
        replay_folder: Where the game's own replay goes, one file for all battles from launch to close; None saves none.
        sort_enemies: Whether enemies are numbered by type and place at the start, as RODE does. The game may list them
            in another order in every battle.
        limit_terminates: Whether a battle that runs out of time counts as decided, as in PyMARL.
        options: Further arguments of ``smac.env.StarCraft2Env``.

    Raises:
        ValueError: If a part of the installation is missing, or an option is unknown.

    Source:
        Samvelyan et al., "The StarCraft Multi-Agent Challenge", 2019.
    """

    family = "smac"
    unhurt_at_first = True

    def __init__(
        self,
        seed: int = 0,
        *,
        map_name: str = "3m",
        game_version: str | None = None,
        replay_folder: str | None = None,
        sort_enemies: bool = False,
        limit_terminates: bool = False,
        **options: Any,
    ) -> None:
        self._map_name = map_name
        super().__init__(
            seed,
            map_name,
            f"battle/{map_name}",
            game_version=game_version,
            replay_folder=replay_folder,
            sort_enemies=sort_enemies,
            limit_terminates=limit_terminates,
            options=options,
        )

    def _name(self) -> str:
        return f"smac/{self._map_name}"

    def _make(self, options: dict[str, Any]) -> Any:
        from smac.env import StarCraft2Env

        refuse_unknown(options, StarCraft2Env.__init__, self._name())
        return StarCraft2Env(map_name=self._map_name, **options)
