"""The process of one game, seen by whoever started it."""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from qmix_lightning.envs.games.base import GameFactory
from qmix_lightning.rollout.processes.guardian import end_group
from qmix_lightning.rollout.processes.household import Household
from qmix_lightning.rollout.processes.messages import (
    BOARD,
    CLOSE,
    FAULT,
    LARGEST,
    STEP,
    Card,
    Fault,
    Seating,
    reset_message,
    send_factory,
)

_START: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from qmix_lightning.rollout.processes.worker import main
main(int(sys.argv[2]))
"""


class GameProcess:
    """Starts the process of a game, gives it orders and hears what became of them; ends it with all its descendants.

    The process leads a group of its own, so that what it starts can be ended with it. Its temporary files lie in a
    folder that is removed with it, and what it prints in a file there.

    Args:
        household: Who ends it if this process is killed.
        factory: Makes the game, in the other process.
        seed: Of the game.

    Attributes:
        line: The socket on which answers come; it becomes readable at the process's end, too.

    Raises:
        ValueError: If ``factory`` cannot be sent to another process.
    """

    def __init__(self, household: Household, factory: GameFactory, seed: int) -> None:
        self._household, self._folder = household, household.room()
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self._folder)},
            )
        household.adopt(self._process.pid)
        try:
            send_factory(self.line, factory, seed)
        except ValueError:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Number of the process, and of the group of all that it started."""
        return self._process.pid

    def read_card(self, seconds: float) -> Card | Fault:
        """Wait for what the game says of itself."""
        if not select.select([self.line], [], [], seconds)[0]:
            return Fault("hang", f"nothing was heard of it for {seconds:g} s")
        answer = self.answer()
        return answer if isinstance(answer, Fault) else pickle.loads(answer)

    def take_seat(self, seating: Seating, memory: int) -> None:
        """Have the game play at a place of a board.

        Args:
            seating: Which place.
            memory: Descriptor of the board's memory.
        """
        self._send(BOARD + pickle.dumps(seating), memory)

    def reset(self, seed: int) -> None:
        """Have it start an episode."""
        self._send(reset_message(seed))

    def step(self) -> None:
        """Have it play the step that stands on the board."""
        self._send(STEP)

    def answer(self) -> bytes | Fault:
        """What came on the line, which must be readable: what the game sent along, or why it could not go on."""
        try:
            message = self.line.recv(LARGEST)
        except ConnectionResetError:
            message = b""
        if not message:
            return Fault("death", f"its process ended ({self._end()})")
        if message[:1] == FAULT:
            fault: Fault = pickle.loads(message[1:])
            return fault
        return message[1:]

    def last_words(self) -> str:
        """The end of what the process printed."""
        try:
            return (self._folder / "output").read_bytes()[-2_000:].decode(errors="replace").strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        # Before it is waited for: until then nobody else can have its number.
        end_group(self.pid)
        self._process.wait()
        self._household.dismiss(self.pid)
        self.line.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask_to_close(self) -> None:
        """Let the game close itself; :meth:`kill` it all the same after :meth:`wait_for_end`."""
        self._send(CLOSE)

    def wait_for_end(self, until: float) -> None:
        """Wait for the process to hang up, until ``time.monotonic()`` says that it takes too long."""
        # It is not waited for itself, so that nobody else can have its number before its group is ended.
        while select.select([self.line], [], [], max(0.0, until - time.monotonic()))[0]:
            try:
                if not self.line.recv(LARGEST):
                    return
            except ConnectionResetError:
                return

    def _send(self, message: bytes, *descriptors: int) -> None:
        try:
            socket.send_fds(self.line, [message], descriptors)
        except OSError:  # It is gone, which will be heard on the line.
            return

    def _end(self) -> str:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "it closed its line"
        return f"signal {-status}" if status < 0 else f"status {status}"


def close_all(processes: list[GameProcess], seconds: float) -> None:
    """Let games close themselves, all at the same time, and end those that take longer than ``seconds``."""
    for process in processes:
        process.ask_to_close()
    until = time.monotonic() + seconds
    for process in processes:
        process.wait_for_end(until)
        process.kill()


def memory_file(size: int) -> int:
    """Make memory that processes can share, which is gone with the last of them.

    Returns:
        Its descriptor.
    """
    descriptor = os.memfd_create("qmix-board")
    os.ftruncate(descriptor, size)
    return descriptor


def exists(group: int) -> bool:
    """Whether a process group has a living member, e.g. for a test that nothing is left of it."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # It ended meanwhile.
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False
