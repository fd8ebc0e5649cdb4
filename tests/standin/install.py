"""A directory that looks to pysc2 as if StarCraft II were installed there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.standin.script import Script

ROOT = Path(__file__).parents[2]
BUILD = 75689
"""StarCraft II 4.10."""


def install(home, maps, **script):
    """Install a stand-in game and set what it does; doing so again changes what the next launches do.

    Args:
        home: Where; environments find it by ``SC2PATH``.
        maps: Names of the maps that pysc2 shall find; what is in their files is nobody's business here.
        script: See :class:`~tests.standin.script.Script`.
    """
    home = Path(home)
    for folder in (f"Versions/Base{BUILD}", "Maps/SMAC_Maps", "Replays"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name in maps:
        (home / "Maps/SMAC_Maps" / f"{name}.SC2Map").write_bytes(b"MPQ")
    program = home / f"Versions/Base{BUILD}/SC2_x64"
    if not program.exists():
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} OMP_NUM_THREADS=1 "
            f'exec {shlex.quote(sys.executable)} -m tests.standin.server "$@"\n'
        )
        program.chmod(0o755)
    Script(**script).write(home)
    return home


def warm_up():
    """Compile the simulator for the games, so that none of them keeps its first client waiting for minutes."""
    command = [sys.executable, "-c", "from tests.standin.battle import compile_all; compile_all()"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def launches(home):
    """How many games have been launched from an installation."""
    started = Path(home) / "launches"
    return len(started.read_text().splitlines()) if started.exists() else 0
