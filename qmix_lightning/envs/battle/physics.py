"""What nobody knows about StarCraft II without its engine: each open question a named switch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.scenario import Pathing
from qmix_lightning.envs.battle.state import uniform

Formation = Literal["rings", "square"]
Ranking = Literal["nearest", "threat"]

LAWS: Final = np.dtype(
    [
        ("standing_weight", np.float32),
        ("spawn_jitter", np.float32),
        ("formation", np.int8),
        ("ranking", np.int8),
        ("scan_period", np.int8),
        ("surround", np.bool_),
        ("medivac_follows", np.bool_),
        ("creep_decay", np.bool_),
        ("drawn", np.bool_),  # anew for every episode
    ],
    align=True,
)
"""The physics of one battle."""


@dataclass(frozen=True)
class Physics:
    """The open questions of physics, and the answers that battles are played with.

    Args:
        formation: How units spread that are created at one point: in hexagonal ``"rings"`` or in a ``"square"``.
        spawn_jitter: Cells by which each unit is displaced at the start at most, along each axis.
        ranking: Which of the targets that it can see an enemy prefers, when it can shoot none yet: the ``"nearest"``,
            or the nearest of those that are a ``"threat"``, which attack or heal.
        scan_period: Game loops between two looks of an enemy for a target.
        surround: Whether units on their way to a target walk around those who fight already, or push them from behind.
        medivac_follows: Whether the enemies' medivacs follow their army while nobody is wounded, or stay.
        standing_weight: How much a standing unit yields to a push, where a moving one yields 1.
        creep_decay: Whether buildings off creep lose health, as the catalogue and players say of the spine crawler; on
            2s_vs_1sc there is no creep.
        pathing: Which reading of the map archive says where units can walk, ``"inner"``, ``"outer"`` (a cell wider), or
            the one that is ``"likely"`` on the map.

    Raises:
        ValueError: If a value is not one of these or out of range.
    """

    formation: Formation = "rings"
    spawn_jitter: float = 0.25
    ranking: Ranking = "nearest"
    scan_period: int = 8
    surround: bool = True
    medivac_follows: bool = True
    standing_weight: float = 0.2
    creep_decay: bool = True
    pathing: Pathing = "likely"

    def __post_init__(self) -> None:
        for name, known in (
            ("formation", ("rings", "square")), ("ranking", ("nearest", "threat")),
            ("pathing", ("likely", "inner", "outer")), ("surround", (False, True)), ("medivac_follows", (False, True)),
            ("creep_decay", (False, True)),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                expected = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}. Expected {expected}.")
        for name, least, most in (("spawn_jitter", 0, 1), ("scan_period", 1, 100), ("standing_weight", 0.01, 1)):
            value, kind = getattr(self, name), "a whole number" if name == "scan_period" else "a number"
            fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
            if not fits or (name == "scan_period" and value != int(value)):
                raise ValueError(f"{name} must be {kind}, at least {least} and at most {most}, got {value!r}.")

    def laws(self, num_envs: int, *, drawn: bool = False) -> Any:
        """These physics for ``num_envs`` battles, ``[B]`` :data:`LAWS`.

        Args:
            num_envs: Number B of battles.
            drawn: Draw those of every episode anew instead, in the ranges that are thought possible.

        Example:
            >>> int(Physics(scan_period=4).laws(2)["scan_period"][1])
            4
        """
        laws = np.zeros(num_envs, dtype=LAWS)
        for name, value in asdict(self).items():
            if name in ("formation", "ranking"):
                value = {"rings": 0, "square": 1, "nearest": 0, "threat": 1}[value]
            if name != "pathing":
                laws[name] = value
        laws["drawn"] = drawn
        return laws


@inlined
def draw_laws(law: Any, clock: Any) -> None:
    """Draw the physics of the next episode: any formation, ranking, crowd and medivac, and a range of the numbers."""
    law.formation = int(uniform(clock, 0.0, 2.0))
    law.ranking = int(uniform(clock, 0.0, 2.0))
    law.surround = uniform(clock, 0.0, 1.0) < 0.5
    law.medivac_follows = uniform(clock, 0.0, 1.0) < 0.5
    law.scan_period = 4 + int(uniform(clock, 0.0, 5.0))
    law.standing_weight = uniform(clock, 0.1, 0.3)
    law.spawn_jitter = uniform(clock, 0.0, 0.25)
