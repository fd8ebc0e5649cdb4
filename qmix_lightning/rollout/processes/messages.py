"""What a rollout and the process of one of its games say to each other.

On the way between two steps these are single bytes; arrays stay in memory that both see.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from socket import socket
from typing import Final

from qmix_lightning.envs.games.base import AbstractGame, GameFactory
from qmix_lightning.spec import TaskSpec

RESET: Final = b"r"
"""Start an episode; the seed follows."""
STEP: Final = b"s"
"""Play the step that stands on the board."""
CLOSE: Final = b"q"
"""Close the game and end."""
BOARD: Final = b"b"
"""Take this place on this board, whose memory comes along."""
DONE: Final = b"k"
"""What was asked for is done."""
FAULT: Final = b"f"
"""It could not be done; the reason follows."""

LARGEST: Final = 1 << 16
"""Bytes of the longest message."""

_SEED: Final = struct.Struct("<q")


@dataclass(frozen=True)
class Card:
    """What a game says of itself before it plays.

    Args:
        spec: The task's sizes.
        info_keys: Names of the numbers that each step reports.
        versions: What its results may depend on.
    """

    spec: TaskSpec
    info_keys: tuple[str, ...]
    versions: dict[str, str]

    @classmethod
    def of(cls, game: AbstractGame) -> Card:
        """The card of a game."""
        return cls(game.spec, tuple(game.info_keys), game.versions())


@dataclass(frozen=True)
class Fault:
    """Why a game could not go on.

    Args:
        reason: A word or two by which faults are counted, e.g. ``"crash"``.
        words: What happened.
        trace: Where, if an exception told.
    """

    reason: str
    words: str
    trace: str = ""


@dataclass(frozen=True)
class Seating:
    """Where a game plays.

    Args:
        card: Its card, from which the layout of the board follows.
        num_games: Games on the board.
        place: Which of them this is.
    """

    card: Card
    num_games: int
    place: int


def reset_message(seed: int) -> bytes:
    """Ask for a new episode.

    Example:
        >>> seed_of(reset_message(-3))
        -3
    """
    return RESET + _SEED.pack(seed)


def seed_of(message: bytes) -> int:
    """The seed of :func:`reset_message`."""
    seed: int = _SEED.unpack(message[1:])[0]
    return seed


def fault_message(fault: Fault) -> bytes:
    """Tell why something could not be done, at a length that fits."""
    short = Fault(fault.reason[:100], fault.words[-4_000:], fault.trace[-8_000:])
    return FAULT + pickle.dumps(short)


def send_factory(line: socket, factory: GameFactory, seed: int) -> None:
    """Tell a new process what to play.

    Raises:
        ValueError: If the other side could not read it.
    """
    try:
        message = pickle.dumps((factory, seed))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"A game in a process of its own is made there by a function that can be imported, but {factory!r} cannot"
            f" be sent ({error}). Define it at the top of a module."
        ) from error
    if len(message) > LARGEST:
        raise ValueError(f"What makes a game takes {len(message)} bytes to send, at most {LARGEST} fit.")
    line.send(message)
