"""Games that play at the same time, each in a process of its own, and are made anew when they fail."""

from __future__ import annotations

import mmap
import os
import selectors
import time
import weakref
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

from qmix_lightning.envs.games.base import GameFactory
from qmix_lightning.envs.games.board import Board
from qmix_lightning.envs.games.seeds import episode_seed
from qmix_lightning.rollout.processes.household import Household
from qmix_lightning.rollout.processes.messages import Card, Fault, Seating
from qmix_lightning.rollout.processes.patience import Losses, Patience
from qmix_lightning.rollout.processes.process import GameProcess, close_all, memory_file

Kind = Literal["began", "stepped", "lost", "gone"]


class News(NamedTuple):
    """What became of an order.

    Attributes:
        game: Whose.
        kind: Its episode "began" or was "stepped"; it was "lost", and another may be asked for; or the game is "gone".
    """

    game: int
    kind: Kind


@dataclass
class _Player:
    """A game, and what it is about."""

    process: GameProcess | None = None
    seated: bool = False
    doing: Literal["nothing", "waiting", "launch", "reset", "step"] = "nothing"
    until: float = 0.0
    """When it is to be launched, if it is waiting, and else its deadline."""
    not_before: float = 0.0
    seed: int = 0
    steps: int = 0
    gone: bool = False


class GamePool:
    """Plays B games, gives each its orders and tells what became of them, in whatever order they come.

    A game that fails, hangs beyond its deadline or dies loses its episode, and is made anew, in a new process, with
    another seed, when its next episode is asked for. The others do not notice.

    Args:
        factory: Makes a game from a seed.
        num_games: Number B of games.
        seed: Of the games.
        patience: What they are granted.

    Attributes:
        card: What the games say of themselves.
        board: Where they show themselves and hear what to do.

    Raises:
        ValueError: If the first game cannot be made; it says why.
    """

    def __init__(self, factory: GameFactory, num_games: int, seed: int = 0, patience: Patience | None = None) -> None:
        self._factory, self._seed, self._patience = factory, seed, patience or Patience()
        self._made = count()
        self._players = [_Player() for _ in range(num_games)]
        self._selector = selectors.DefaultSelector()
        self._last_launch = float("-inf")
        self._household = Household()
        self._close = weakref.finalize(self, _close, self._players, self._selector, self._household, self._patience)
        try:
            self.card = self._first_card()
        except BaseException:
            self.close()
            raise
        size = Board.size(self.card.spec, self.card.info_keys, num_games)
        self._memory = memory_file(size)
        weakref.finalize(self, os.close, self._memory)
        self.board = Board(self.card.spec, self.card.info_keys, num_games, memoryview(mmap.mmap(self._memory, size)))
        self._losses = Losses(self.card.spec.name, num_games, self._patience)

    @property
    def restarts(self) -> Counter[str]:
        """How often a game was made anew, by reason."""
        return self._losses.restarts

    @property
    def pids(self) -> list[int | None]:
        """The processes of the games."""
        return [None if player.process is None else player.process.pid for player in self._players]

    def reset(self, game: int, seed: int) -> None:
        """Ask for a new episode of a game that has nothing to do."""
        player = self._players[game]
        player.seed = seed
        if player.process is not None and player.steps >= self._patience.recycle_after:
            self._losses.recycled()
            self._dismiss(player, politely=True)
        if player.process is None:
            player.doing, player.until = "waiting", player.not_before
        else:
            self._begin(game)

    def step(self, games: Iterable[int]) -> None:
        """Have games play the steps that stand on the board."""
        now = time.monotonic()
        for game in games:
            player = self._players[game]
            assert player.process is not None, "A game that shows something has a process."
            player.doing, player.until = "step", now + self._patience.step_deadline
            player.process.step()

    def succeeded(self, game: int) -> None:
        """Note that an episode was played to its end."""
        self._losses.succeeded(game)

    def wait(self) -> list[News]:
        """Wait until orders are done, or have failed.

        Returns:
            At least one, unless nothing was ordered.

        Raises:
            RuntimeError: If all games failed too often.
        """
        news: list[News] = []
        while not news and any(player.doing != "nothing" for player in self._players):
            self._launch_due()
            timeout = max(0.0, self._next_time() - time.monotonic())
            for key, _ in self._selector.select(timeout):
                news += self._hear(key.data)
            news += self._overdue()
        if all(player.gone for player in self._players):
            raise RuntimeError(self._losses.obituary())
        return news

    def close(self) -> None:
        """Let the games close themselves, for some seconds, and end them."""
        self._close()

    def _first_card(self) -> Card:
        process = self._start(0)
        card = process.read_card(self._patience.reset_deadline)
        if isinstance(card, Fault):
            if card.reason == "ValueError":  # In words that a user understands.
                raise ValueError(card.words)
            last = card.trace or process.last_words()
            raise ValueError(f"The first game could not be made: {card.reason}, {card.words}.\n{last}".strip())
        return card

    def _start(self, game: int) -> GameProcess:
        seed = episode_seed(self._seed, next(self._made))
        process = GameProcess(self._household, self._factory, seed)
        player = self._players[game]
        player.process, player.seated, player.steps = process, False, 0
        self._selector.register(process.line, selectors.EVENT_READ, game)
        self._last_launch = time.monotonic()
        return process

    def _launch_due(self) -> None:
        for game, player in enumerate(self._players):
            now = time.monotonic()
            if player.doing != "waiting" or now < player.until or now < self._last_launch + self._patience.stagger:
                continue
            self._start(game)
            player.doing, player.until = "launch", now + self._patience.reset_deadline

    def _begin(self, game: int) -> None:
        player = self._players[game]
        assert player.process is not None, "It was just started, or there before."
        if not player.seated:
            player.process.take_seat(Seating(self.card, len(self._players), game), self._memory)
            player.seated = True
        player.doing, player.until = "reset", time.monotonic() + self._patience.reset_deadline
        player.process.reset(player.seed)

    def _hear(self, game: int) -> list[News]:
        player = self._players[game]
        assert player.process is not None, "Only lines of processes are listened to."
        answer = player.process.answer()
        if isinstance(answer, Fault):
            return self._lose(game, answer)
        if player.doing == "launch":
            self._begin(game)
            return []
        if player.doing == "step":
            player.steps += 1
        kind: Kind = "stepped" if player.doing == "step" else "began"
        player.doing = "nothing"
        return [News(game, kind)]

    def _overdue(self) -> list[News]:
        news, now = [], time.monotonic()
        for game, player in enumerate(self._players):
            if player.doing in ("launch", "reset", "step") and now >= player.until:
                news += self._lose(game, Fault("hang", "it was not done within its deadline"))
        return news

    def _lose(self, game: int, fault: Fault) -> list[News]:
        player = self._players[game]
        when = "step" if player.doing == "nothing" else player.doing
        idle = player.doing == "nothing"
        said = fault.trace or (player.process.last_words() if player.process is not None else "")
        self._dismiss(player)
        pause = self._losses.failed(game, when, fault.reason, fault.words, said)
        player.doing, player.gone = "nothing", pause is None
        player.not_before = time.monotonic() + (pause or 0.0)
        if pause is None:
            return [News(game, "gone")]
        return [News(game, "lost")] if not idle or player.seated else []

    def _dismiss(self, player: _Player, *, politely: bool = False) -> None:
        if player.process is None:
            return
        self._selector.unregister(player.process.line)
        if politely:
            close_all([player.process], self._patience.close_deadline)
        else:
            player.process.kill()
        player.process = None

    def _next_time(self) -> float:
        earliest = self._last_launch + self._patience.stagger
        return min(
            max(player.until, earliest) if player.doing == "waiting" else player.until
            for player in self._players
            if player.doing != "nothing"
        )


def _close(players: list[_Player], selector: selectors.BaseSelector, household: Household, patience: Patience) -> None:
    processes = [player.process for player in players if player.process is not None]
    with suppress(KeyboardInterrupt):  # Impatience ends them at once.
        close_all(processes, patience.close_deadline)
    for player in players:
        player.process, player.gone = None, True
    selector.close()
    household.close()
