"""``qmix doctor``: is everything there that battles in StarCraft II need?"""

from __future__ import annotations

import time
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterator
from typing import get_args

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Generator, Tensor

from qmix_lightning.cli.words import refuse
from qmix_lightning.envs.adapters.installation import Family, Finding, examine
from qmix_lightning.envs.adapters.smac import MAPS as SMAC_MAPS
from qmix_lightning.envs.adapters.smacv2 import MAP_FILE
from qmix_lightning.envs.adapters.smacv2 import MAPS as SMACV2_MAPS
from qmix_lightning.envs.registry import game
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.spec import MASK, REWARD, TaskSpec

_MAPS: dict[Family, tuple[str, ...]] = {"smac": SMAC_MAPS, "smacv2": SMACV2_MAPS}
_FIRST: dict[Family, str] = {"smac": "3m", "smacv2": "terran_5_vs_5"}


def main(words: list[str]) -> None:
    """Look at every part of the installation, and play a battle.

    Args:
        words: The package to examine, and options.

    Raises:
        SystemExit: With status 1 if something is missing or the battle failed, and 2 if the words are wrong.
    """
    parser = ArgumentParser(
        "qmix doctor",
        description="Look for all that battles in StarCraft II need, play one, and say how to mend what is missing.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("family", nargs="?", default="smac", help="smac or smacv2, each a package (default: smac)")
    parser.add_argument("--map", help="the map of the battle (default: 3m, or terran_5_vs_5)")
    parser.add_argument("--version", help="version of the game, e.g. 4.10.0 (default: the newest that is installed)")
    try:
        options, unknown = parser.parse_known_args(words)
    except ArgumentError as error:
        refuse(str(error))
    family = options.family
    if unknown or family not in get_args(Family):
        refuse(f"qmix doctor examines smac or smacv2, got {' '.join(unknown) or family}. See qmix doctor --help.")
    map_name = options.map or _FIRST[family]
    if map_name not in _MAPS[family]:
        refuse(f"Unknown map {map_name!r} of {family}. Known are {', '.join(_MAPS[family])}.")
    console = Console(soft_wrap=True)
    found = _show(examination(family, map_name, options.version), console)
    # What one download brings is to be downloaded once.
    cures = dict.fromkeys(finding.cure for finding in found if finding.cure)
    for number, cure in enumerate(cures, 1):
        console.print(f"[bold]{number}.[/]", Text(cure))
    if cures:
        instead = f"battle/{map_name}"
        console.print(f"Without StarCraft II, the embedded simulator plays the same battles: data.env={instead}")
        raise SystemExit(1)
    console.print(f"All is well: qmix fit --config recipes/{family}/{map_name}.yaml", highlight=False)


def examination(family: Family, map_name: str, game_version: str | None = None) -> Iterator[Finding]:
    """Everything that is installed, and if nothing is missing, one battle.

    Args:
        family: Which package plays it.
        map_name: One of its tasks.
        game_version: Of the game; None takes the newest that is installed.

    Yields:
        One finding after the other; the battle takes a minute.
    """
    map_file, missing = map_name if family == "smac" else MAP_FILE, False
    for finding in examine(family, map_file, game_version):
        missing |= bool(finding.cure)
        yield finding
    if not missing:
        yield play_a_battle(f"{family}/{map_name}", game_version)


def play_a_battle(name: str, game_version: str | None = None) -> Finding:
    """Play a battle at random, in a process of its own.

    Args:
        name: Of the task.
        game_version: Of the game.

    Returns:
        How it ended, or why it did not.
    """
    what, began = f"One battle of {name}", time.monotonic()
    options = {} if game_version is None else {"game_version": game_version}
    factory = game(name, **options)
    assert factory is not None, "Battles in StarCraft II are single games."
    try:
        rollout = WorkerRollout(factory, 1, patience=Patience(retries=1))
    except ValueError as error:
        return Finding(what, "cannot be made", str(error))
    try:
        episode = rollout.play(_Random(rollout.spec), 1, seed=1)
    except RuntimeError as error:
        return Finding(what, "failed", f"See what the game said:\n{error}")
    finally:
        rollout.close()
    steps, earned = int(episode[MASK].sum()), float(episode[REWARD].sum())
    return Finding(what, f"{steps} steps, return {earned:.2f}, in {time.monotonic() - began:.0f} s with the launch")


class _Random:
    """Plays any legal action; a policy, see ``spec.py``."""

    def __init__(self, spec: TaskSpec) -> None:
        self._n_agents = spec.n_agents

    def initial_memory(self, battles: int) -> Tensor:
        return torch.zeros(battles, self._n_agents, 0)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        keys = torch.rand(action_mask.shape, generator=generator)
        return keys.masked_fill(~action_mask, -1.0).argmax(-1), memory


def _show(findings: Iterator[Finding], console: Console) -> list[Finding]:
    table = Table("", "what")
    table.add_column("found", overflow="fold")
    found = []
    with console.status("Looking, and playing a battle ..."):
        for finding in findings:
            found.append(finding)
            mark = Text("missing", "bold red") if finding.cure else Text("ok", "green")
            table.add_row(mark, Text(finding.what), Text(finding.found))
    console.print(table)
    return found
