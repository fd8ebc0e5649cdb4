"""A game for one process whose numbers say where they came from, and which fails as it is told to.

It needs neither torch nor pytest, so that its process starts at once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmix_lightning.envs.games.base import AbstractGame, GameFaultError, Sight, Turn
from qmix_lightning.spec import TaskSpec

LIMIT = 5


class CountingGame(AbstractGame):
    """Observation ``[episode, step, agent]``, state ``[seed mod 997, episode, step]``, reward the step.

    An episode of seed s lasts ``1 + s mod 5`` steps; at the fifth it is cut off. Of the actions, ``1 + (step + agent)
    mod 3`` is illegal. It is won where s is odd.

    Args:
        seed: Unused, since each episode has its own.
        diary: A file in which every game writes a line for what it begins to do: ``make``, ``reset``, ``step``.
        faults: What to do at the n-th entry of its kind in the diary, counted over all games from 0, e.g.
            ``{"step 7": "crash"}``: "crash", "error", "hang", "stop", "die", or a number of seconds to sleep. With n
            ``*``, at every one.
        child: Whether to start a process, as StarCraft's package starts the game.
        ports: The port that the n-th game that is made listens on, as StarCraft does; needs a diary.
    """

    spec = TaskSpec("fake/counting", n_agents=3, n_actions=4, observation_size=3, state_size=3, episode_limit=LIMIT)
    info_keys = ("battle_won", "dead_allies")

    def __init__(
        self,
        seed: int = 0,
        *,
        diary: Path | None = None,
        faults: Mapping[str, Any] = {},
        child: bool = False,
        ports: Sequence[int] = (),
    ) -> None:
        self._diary, self._faults = diary, dict(faults)
        self._seed, self._episode, self._step = 0, -1, 0
        number = self._fail("make")
        self._listening = socket.create_server(("127.0.0.1", ports[number])) if ports else None
        if child:
            subprocess.Popen(["sleep", "600"])

    def reset(self, seed: int) -> None:
        self._fail("reset")
        self._seed, self._episode, self._step = seed, self._episode + 1, 0

    def step(self, action: np.ndarray) -> Turn:
        self._fail("step")
        reward, self._step = float(self._step), self._step + 1
        over = self._step == length(self._seed)
        info = {"battle_won": float(over and self._seed % 2), "dead_allies": float(self._step)}
        return Turn(reward, over and self._step < LIMIT, info=info)

    def show(self, sight: Sight) -> None:
        agents = np.arange(3)
        sight.observation[:] = np.stack([np.full(3, self._episode), np.full(3, self._step), agents], -1)
        sight.state[:] = [self._seed % 997, self._episode, self._step]
        sight.action_mask[:] = True
        sight.action_mask[agents, 1 + (self._step + agents) % 3] = False

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def close(self) -> None:
        self._note("close")

    def _note(self, what: str) -> int:
        """Write down what is done, and count how often it was done before, by whichever process."""
        if self._diary is None:
            return 0
        with self._diary.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{what} {os.getpid()}\n")
            file.flush()
            file.seek(0)
            return sum(line.startswith(f"{what} ") for line in file) - 1

    def _fail(self, what: str) -> int:
        number = self._note(what)
        fault = self._faults.get(f"{what} {number}", self._faults.get(f"{what} *"))
        if fault == "crash":
            raise GameFaultError("crash", f"told to in {what} {number}")
        if fault == "error":
            raise ConnectionError(f"told to in {what} {number}")
        if fault == "refuse":
            raise ValueError("There is no such world.\nTake another.")
        if fault == "hang":
            time.sleep(600)
        if fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(fault, float):
            time.sleep(fault)
        return number


def length(seed: int) -> int:
    return 1 + seed % LIMIT
