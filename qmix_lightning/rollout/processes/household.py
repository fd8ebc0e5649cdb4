"""Process groups that end with this process, however it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_NUMBERS: Final = count()

_GUARDIAN: Final = Path(__file__).with_name("guardian.py")


class Household:
    """Has a guardian end the groups of processes that were adopted, should this process be killed.

    Example:
        >>> household = Household()
        >>> household.room().is_dir()
        True
        >>> household.close()
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="qmix-games-"))
        # Isolated, and without site-packages: it starts in some 10 ms and needs 8 MB.
        command = [sys.executable, "-I", "-S", str(_GUARDIAN), str(os.getpid())]
        self._guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self._lock = threading.Lock()
        self._tell(f"={self._folder}")
        self._end = weakref.finalize(self, _end, self._guardian, self._folder)

    def room(self) -> Path:
        """Make a folder for a process, which is removed at last."""
        folder = self._folder / str(next(_NUMBERS))
        folder.mkdir()
        return folder

    def adopt(self, group: int) -> None:
        """Have a process group ended with this process."""
        self._tell(f"+{group}")

    def dismiss(self, group: int) -> None:
        """Forget a process group that has ended: its number may be given to another."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """End the groups that are still there, and remove the folders."""
        self._end()

    def _tell(self, line: str) -> None:
        assert self._guardian.stdin is not None, "It was opened with a pipe."
        with self._lock:
            try:
                self._guardian.stdin.write(f"{line}\n".encode())
                self._guardian.stdin.flush()
            except (BrokenPipeError, ValueError):  # Somebody ended it, or all was closed.
                return


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
