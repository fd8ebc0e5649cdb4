"""``qmix yardsticks 3m 8m``: what scripted teams win on the maps, as a table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from qmix_lightning.cli.options import OptionParser
from qmix_lightning.cli.words import refuse
from qmix_lightning.envs.battle.scenario import map_names
from qmix_lightning.envs.battle.scripted.registry import SCRIPTS, scripted_policy
from qmix_lightning.envs.registry import make
from qmix_lightning.metrics.outcome import wilson_interval
from qmix_lightning.rollout.scoring import Outcomes, score

_SIDE_BY_SIDE = 256
"""Battles played at once; every such lot waits for its longest."""


class Row(NamedTuple):
    """How the scripted teams fared on one map, by their names."""

    map_name: str
    outcomes: dict[str, Outcomes]


def main(words: list[str]) -> None:
    """Let scripted teams play: ``qmix yardsticks 3m 8m --battles 512``.

    Args:
        words: Words after ``qmix yardsticks``.
    """
    parser = OptionParser(
        "qmix yardsticks",
        "Let scripted teams play and print what they win: win rate with its 95 % interval (Wilson), mean return and"
        f" mean length in steps. The teams are {', '.join(SCRIPTS)}; docs/environments/battle.md says what they do.",
    )
    parser.add_argument("maps", nargs="*", metavar="MAP", help="e.g. 3m; all 38 if none is named")
    parser.add_argument("--policies", default=",".join(SCRIPTS), help="names of teams, separated by commas; all")
    parser.add_argument("--battles", type=int, default=256, help="that each plays on each map; 256")
    parser.add_argument("--seed", type=int, default=1, help="of the battles; 1")
    parser.add_argument("--markdown", action="store_true", help="print a table for Markdown")
    options = parser.parse_args(words)
    names = options.policies.split(",")
    if unknown := [name for name in names if name not in SCRIPTS]:
        refuse(f"There is no scripted team {unknown[0]!r}. Known are {', '.join(SCRIPTS)}.")
    if options.battles < 1:
        refuse(f"--battles must be positive, got {options.battles}.")
    maps = [name.removeprefix("battle/") for name in options.maps] or map_names()
    if strange := [name for name in maps if name not in map_names()]:
        refuse(f"There is no map {strange[0]!r}. Known are {', '.join(map_names())}.")
    progress, rows = Console(stderr=True), []
    for number, name in enumerate(maps, 1):
        begun = time.monotonic()
        with progress.status(f"{name} ({number} of {len(maps)})"):
            rows.append(Row(name, {script: _play(script, name, options.battles, options.seed) for script in names}))
        if len(maps) > 1:
            progress.print(f"{number} of {len(maps)}: {name}, {time.monotonic() - begun:.0f} s", highlight=False)
    if options.markdown:
        Console(soft_wrap=True).print("\n".join(markdown(rows)), markup=False, highlight=False)
    else:
        Console().print(table(rows))


def _play(script: str, map_name: str, battles: int, seed: int) -> Outcomes:
    """The battles 0 to ``battles`` - 1 of the seed; each lot of them starts them anew, so that all are first ones."""
    lots = []
    for first in range(0, battles, _SIDE_BY_SIDE):
        env = make(f"battle/{map_name}", num_envs=min(_SIDE_BY_SIDE, battles - first), seed=seed, first=first)
        lots.append(score(env, scripted_policy(script, env.spec)))
    return Outcomes(*(torch.cat(parts) for parts in zip(*lots, strict=True)))


def cells(outcomes: Outcomes) -> tuple[str, str, str]:
    """Win rate in percent with its interval, mean return and mean length.

    Example:
        >>> cells(Outcomes(torch.tensor([True, False]), torch.tensor([20.0, 10.0]), torch.tensor([30, 50])))
        ('50 (9–91)', '15.0', '40')
    """
    won, battles = int(outcomes.won.sum()), len(outcomes.won)
    low, high = (round(100 * end) for end in wilson_interval(won, battles))
    mean_return, length = float(outcomes.returns.mean()), float(outcomes.length.float().mean())
    return f"{round(100 * won / battles)} ({low}–{high})", f"{mean_return:.1f}", f"{length:.0f}"


def table(rows: Sequence[Row]) -> Table:
    """Everything, a line for each map and team."""
    drawn = Table("map", "team", "win rate (%)", "return", "length")
    for row in rows:
        for number, (script, outcomes) in enumerate(row.outcomes.items()):
            drawn.add_row(row.map_name if number == 0 else "", script, *cells(outcomes))
        drawn.add_section()
    return drawn


def markdown(rows: Sequence[Row]) -> Iterable[str]:
    """Everything, a line for each map."""
    scripts = list(rows[0].outcomes)
    yield f"| map | {' | '.join(scripts)} |"
    yield "|---" * (1 + len(scripts)) + "|"
    for row in rows:
        shown = [
            f"**{rate}** {mean_return}, {length}" for rate, mean_return, length in map(cells, row.outcomes.values())
        ]
        yield f"| {row.map_name} | {' | '.join(shown)} |"
