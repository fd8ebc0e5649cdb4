"""``qmix plot logs/battle-3m/version_0``: learning curves as a figure and as numbers."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Sequence
from glob import glob
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmix_lightning.cli.options import OptionParser
from qmix_lightning.cli.words import refuse, relative, say
from qmix_lightning.curves import LearningCurve, Points, find_runs, read_scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Those that the colour-blind can tell apart. Okabe and Ito, "Color Universal Design", 2008; yellow left out."""

_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))

_MOST_INSIDE, _MOST_BESIDE = 12, 18
"""Curves in a legend over the curves, and in a column of one beside them, that leave room for both."""

_WINS, _RETURNS = "val/win_rate", "val/return"

_AXES = {"win_rate": "win rate", "return": "return", "episode_length": "length of a battle (steps)"}


def main(words: list[str]) -> None:
    """Draw the curves of runs: ``qmix plot logs/battle-3m/version_0 …``.

    Args:
        words: Words after ``qmix plot``.
    """
    parser = OptionParser(
        "qmix plot",
        "Draw what runs have logged against environment steps: the median over seeds and the band between their"
        " quartiles, as PNG and SVG, with the numbers as CSV. Nothing is written over.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of a run, a sweep, or several; or a glob")
    parser.add_argument("--tag", help="what to draw; val/win_rate, or val/return where it is not logged")
    parser.add_argument("--labels", help="names of the curves, separated by commas; otherwise their folders")
    parser.add_argument("--out", default="plot", help="the files' name without its ending; plot, then plot-1, plot-2 …")
    options = parser.parse_args(words)
    if find_spec("matplotlib") is None:
        refuse("qmix plot needs matplotlib. Install it: pip install 'qmix-lightning[plot]'")
    asked = {word: _runs(word) for word in options.folders}
    runs = {curve: paths for found in asked.values() for curve, paths in found.items()}
    labels = options.labels.split(",") if options.labels else _labels(list(runs))
    if len(labels) != len(runs):
        refuse(f"Expected {len(runs)} --labels, for {', '.join(map(relative, runs))}, got {len(labels)}.")
    logged = {folder: {run: read_scalars(path) for run, path in paths.items()} for folder, paths in runs.items()}
    tag = _tag(options.tag, {tag for scalars in logged.values() for run in scalars.values() for tag in run})
    named = dict(zip(runs, labels, strict=True))
    points = {folder: {run: scalars.get(tag) for run, scalars in logged[folder].items()} for folder in runs}
    absent = [folder for folder in runs if all(logged is None for logged in points[folder].values())]
    for found in asked.values():
        if not found.keys() - set(absent):
            without = ", ".join(named[folder] for folder in found)
            refuse(f"{without} has not logged {tag!r}, as others have. Leave it out, or choose another --tag.")
    curves = [_curve(named[folder], points[folder], tag) for folder in runs if folder not in absent]
    if absent:
        say("left out:", f"{', '.join(named[folder] for folder in absent)}, which logged no {tag}")
    _save(curves, tag, Path(options.out))


def _runs(word: str) -> dict[Path, dict[str, Path]]:
    matching = [word] if Path(word).is_dir() else sorted(filter(os.path.isdir, glob(word, recursive=True)))
    runs = {curve: paths for folder in matching for curve, paths in find_runs(Path(folder).resolve()).items()}
    if not matching:
        known = ", ".join(map(relative, find_runs("logs"))) or "none"
        refuse(f"There is no folder {word}. Runs found below logs: {known}.")
    if not runs:
        refuse(f"Nothing is logged in {word}: expected TensorBoard's files (events.out.tfevents…) in it or below.")
    return runs


def _labels(folders: list[Path]) -> list[str]:
    if len(folders) == 1:
        return ["/".join(folders[0].parts[-2:])]
    shared = os.path.commonpath(folders)
    return [os.path.relpath(folder, shared) for folder in folders]


def _tag(asked: str | None, known: set[str]) -> str:
    if asked is None:
        asked = _RETURNS if _WINS not in known and _RETURNS in known else _WINS
    if asked not in known:
        near = difflib.get_close_matches(asked, known, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        refuse(f"No run has logged {asked!r}. {meant}Logged are {', '.join(sorted(known)) or 'no scalars'}.")
    return asked


def _curve(label: str, runs: dict[str, Points | None], tag: str) -> LearningCurve:
    there = {run: points for run, points in runs.items() if points is not None}
    try:
        curve = LearningCurve.over(there, label)
    except ValueError as error:
        refuse(str(error))
    n, last = len(there), curve.env_steps[-1]
    low, high = (quartile[-1] for quartile in curve.quartiles)
    band = f" (quartiles {_figure(low, tag)} and {_figure(high, tag)})" if n > 1 else ""
    say(f"{label}:", f"{tag} of {_seeds(n)}, {_figure(curve.median[-1], tag)}{band} after {last:,} env steps")
    if absent := [run for run, points in runs.items() if points is None]:
        say("  left out:", f"{', '.join(absent)}, which logged no {tag}")
    longest = max(steps[-1] for steps, _ in there.values())
    for run, (steps, _) in there.items():
        if steps[-1] < 0.9 * longest:
            say("  cut off:", f"{run} ends after {steps[-1]:,} of {longest:,} env steps, and the curve with it")
    return curve


def _save(curves: Sequence[LearningCurve], tag: str, out: Path) -> None:
    out = out / "plot" if out.is_dir() else out
    out = out.with_suffix("") if out.suffix in (".png", ".svg", ".csv") else out
    out.parent.mkdir(parents=True, exist_ok=True)
    png, svg, table = _free(out)
    _write(table, curves)
    figure = draw(curves, tag)
    figure.savefig(png, dpi=150)
    figure.savefig(svg, metadata={"Date": None})
    if any(len(curve.runs) > 1 for curve in curves):
        say("seeds:", "  interpolated linearly to common env steps, within the range that all of them cover")
    say("figure:", f" {relative(png)}, {relative(svg)}")
    say("numbers:", relative(table))


def _free(out: Path) -> list[Path]:
    for number in count():
        name = f"{out.name}-{number}" if number else out.name
        paths = [out.with_name(f"{name}.{ending}") for ending in ("png", "svg", "csv")]
        if not any(path.exists() for path in paths):
            return paths
    raise AssertionError("there are always more numbers")


def _write(path: Path, curves: Sequence[LearningCurve]) -> None:
    names = list(dict.fromkeys(run for curve in curves for run in curve.runs))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["curve", "env_steps", "median", "q25", "q75", "n", *names], lineterminator="\n")
        writer.writeheader()
        for curve in curves:
            columns = (curve.env_steps, curve.median, *curve.quartiles, *curve.values)
            for steps, median, q25, q75, *values in zip(*(column.tolist() for column in columns), strict=True):
                row = {"curve": curve.name, "env_steps": steps, "median": median, "q25": q25, "q75": q75}
                writer.writerow({**row, "n": len(curve.runs), **dict(zip(curve.runs, values, strict=True))})


def draw(curves: Sequence[LearningCurve], tag: str) -> Figure:
    """Draw learning curves: a line for the median over seeds, and a band between their quartiles.

    Args:
        curves: What to draw, the first on top in the legend.
        tag: What they are of; a ``…/win_rate`` is drawn in percent.

    Returns:
        The figure, of 6.4 x 4 inches; wider where there are so many that the legend stands beside.

    Raises:
        ImportError: Without matplotlib, which is an option: ``pip install 'qmix-lightning[plot]'``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        line = _LINES[number // len(_COLOURS) % len(_LINES)]
        label = f"{curve.name}: {_figure(curve.median[-1], tag)} ({_seeds(len(curve.runs))})"
        marker = "o" if len(curve.env_steps) == 1 else None
        axes.plot(curve.env_steps, curve.median, color=colour, linestyle=line, linewidth=2, label=label, marker=marker)
        if len(curve.runs) > 1:
            axes.fill_between(curve.env_steps, *curve.quartiles, color=colour, alpha=0.2, linewidth=0)
    stage, _, name = tag.partition("/")
    where = {"val": ", greedy play", "test": ", test"}.get(stage, "")
    axes.set(xlabel="environment steps", ylabel=f"{_AXES.get(name, tag)}{where if name in _AXES else ''}")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if name == "win_rate":
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.margins(x=0.01)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    several = any(len(curve.runs) > 1 for curve in curves)
    title = "median at the end" + (", band: quartiles" if several else "")
    words = {"title": title, "frameon": False, "alignment": "left", "fontsize": "small", "title_fontsize": "small"}
    if len(curves) <= _MOST_INSIDE:
        axes.legend(**words)
        return figure
    columns, longest = -(-len(curves) // _MOST_BESIDE), max(len(str(line.get_label())) for line in axes.lines)
    figure.set_figwidth(6.4 + columns * (0.6 + 0.075 * longest))
    figure.legend(loc="outside right upper", ncols=columns, **words)
    return figure


def _seeds(n: int) -> str:
    return f"{n} seeds" if n > 1 else "1 run"


def _figure(value: float, tag: str) -> str:
    return f"{value:.1%}" if tag.endswith("win_rate") else f"{value:.4g}"
