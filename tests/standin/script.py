"""What a stand-in game has been told to do: which battles it plays, and how it fails."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from tests.standin.numbers import FIRST_COPY

NAME = "standin.json"


@dataclass(frozen=True)
class Script:
    """Options and faults; the requests of a process are counted from 1, its launches from 0.

    Args:
        battle: Options of the embedded simulator, e.g. ``{"enemy_order": "creation"}``.
        pathing_bits: Bits a cell of the pathing grid, 1 or 8; StarCraft II has sent both.
        shuffle_enemies: Let the order of the enemies in the protocol differ in every battle.
        first_type: Number of the first of the agents' unit types, which differs from map to map.
        respawn_delay: Loops for which the field stays empty after a battle.
        stale_looks: Observations after a respawn that still show the units of the battle before.
        listen_delay: Seconds until it listens.
        step_delay: Seconds that each step takes longer.
        end_at_loop: Loop from which on the session has ended.
        launches: The launches of this installation that fail as follows; all of them if None.
        die_at_launch: End before listening.
        crash_at: Request at which the process ends without an answer.
        crash_after: Kinds of requests that, when they come one after the other, make the process end without an answer.
        hang_at: Request from which on it says nothing more.
        error_at: Request that is answered with an error.
        wrong_id_at: Request that is answered in the name of another.
        log: Write the kinds of requests of every launch to ``requests-<launch>.log``.
    """

    battle: dict = field(default_factory=dict)
    pathing_bits: int = 1
    shuffle_enemies: bool = False
    first_type: int = FIRST_COPY
    respawn_delay: int = 0
    stale_looks: int = 0
    listen_delay: float = 0.0
    step_delay: float = 0.0
    end_at_loop: int | None = None
    launches: list[int] | None = None
    die_at_launch: bool = False
    crash_at: int | None = None
    crash_after: list[str] = field(default_factory=list)
    hang_at: int | None = None
    error_at: int | None = None
    wrong_id_at: int | None = None
    log: bool = False

    def write(self, home: Path) -> None:
        """Leave the script where the games of an installation read it when they start."""
        (home / NAME).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, home: Path) -> Script:
        return cls(**json.loads((home / NAME).read_text()))

    def fails_in(self, launch: int) -> Script:
        """The script of one launch: without its faults, if another one is to fail."""
        if self.launches is None or launch in self.launches:
            return self
        unharmed = {f.name: f.default for f in fields(self) if f.name in _FAULTS} | {"crash_after": []}
        return Script(**{**asdict(self), **unharmed})


_FAULTS = ("die_at_launch", "crash_at", "hang_at", "error_at", "wrong_id_at", "end_at_loop", "stale_looks")
