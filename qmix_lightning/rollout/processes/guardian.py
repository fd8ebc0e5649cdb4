"""Ends processes whose parent was killed; a program of its own, which needs nothing but the standard library.

A game's process starts others, like StarCraft II, which the kernel does not end with it. All are of one process group,
and the guardian, which belongs to none of them, ends the groups once the parent is gone. It hears of them by lines on
its standard input: ``+123`` for a group to end, ``-123`` for one that has ended, ``=/a/folder`` for a folder to
remove at last.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from types import FrameType
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Listen until the parent closes the line, or dies, and end what it left."""
    parent, groups, folders = int(sys.argv[1]), set[int](), list[str]()

    def finish(number: int = 0, frame: FrameType | None = None) -> None:
        # The kernel's signal comes when the thread ends that started this process; that thread need not be the last.
        if number and os.getppid() == parent:
            return
        for group in groups:
            end_group(group)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    # A line stays open in whatever the parent forked; then the kernel's word counts.
    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for line in sys.stdin:
        said, what = line[0], line[1:].rstrip("\n")
        if said == "+":
            groups.add(int(what))
        elif said == "-":
            groups.discard(int(what))
        else:
            folders.append(what)
    finish()


def end_group(group: int) -> None:
    """Kill all processes of a group, if there are any."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # Nobody is left, or nobody of ours.
        return


if __name__ == "__main__":
    main()
