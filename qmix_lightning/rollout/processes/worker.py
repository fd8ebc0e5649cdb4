"""The process of one game: plays what it is told to, on a board that it shares, until it fails or is closed."""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import traceback

from qmix_lightning.envs.games.base import AbstractGame, GameFaultError
from qmix_lightning.envs.games.board import Board, Seat
from qmix_lightning.rollout.processes.messages import (
    CLOSE,
    DONE,
    LARGEST,
    STEP,
    Card,
    Fault,
    Seating,
    fault_message,
    seed_of,
)


def main(descriptor: int) -> None:
    """Play until told to close, or until whoever tells is gone.

    After a fault the process ends: whoever it came from, a game made anew in a process made anew does not have it.

    Args:
        descriptor: Of the socket on which orders come.
    """
    line = socket.socket(fileno=descriptor)
    game: AbstractGame | None = None
    try:
        order = line.recv(LARGEST)
        if not order:
            return
        factory, seed = pickle.loads(order)
        game = factory(seed)
        line.send(DONE + pickle.dumps(Card.of(game)))
        seat = _take_seat(game, line)
        while seat is not None and (order := line.recv(LARGEST)) not in (b"", CLOSE):
            if order == STEP:
                seat.step()
            else:
                seat.reset(seed_of(order))
            line.send(DONE)
    except (BrokenPipeError, ConnectionResetError):
        return  # Nobody listens any more.
    except Exception as error:  # Whatever a game may raise is its parent's to count.
        line.send(fault_message(_fault(error)))
    finally:
        if game is not None:
            game.close()


def _take_seat(game: AbstractGame, line: socket.socket) -> Seat | None:
    order, descriptors, _, _ = socket.recv_fds(line, LARGEST, 1)
    if not order:
        return None
    seating: Seating = pickle.loads(order[1:])
    card = seating.card
    if (ours := Card.of(game)).spec != card.spec or ours.info_keys != card.info_keys:
        raise ValueError(f"Expected the same game in every process, got {ours.spec} beside {card.spec}.")
    size = Board.size(card.spec, card.info_keys, seating.num_games)
    memory = mmap.mmap(descriptors[0], size)
    os.close(descriptors[0])
    return Seat(game, Board(card.spec, card.info_keys, seating.num_games, memoryview(memory)), seating.place)


def _fault(error: Exception) -> Fault:
    reason = error.reason if isinstance(error, GameFaultError) else type(error).__name__
    return Fault(reason, str(error), "".join(traceback.format_exception(error)))
