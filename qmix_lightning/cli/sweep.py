"""A sweep over seeds: what its runs have in common, where they are, which are finished, and how they went."""

from __future__ import annotations

import json
import logging
import math
import statistics
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from qmix_lightning.cli.side_by_side import Job
from qmix_lightning.cli.training import QMixCLI
from qmix_lightning.cli.words import refuse, relative, say
from qmix_lightning.curves import read_scalars
from qmix_lightning.logger import EnvStepLogger

_RECORD = "sweep.json"
_WINS, _RETURNS = "val/win_rate", "val/return"


class _Rehearsal(QMixCLI):
    """Makes all that a plain run would make, which says what is wrong with the words, and trains nothing."""

    def after_instantiate_classes(self) -> None:
        """Refuse what would make runs that cannot be compared, or that share a folder."""
        loggers = self.trainer.loggers
        if len(loggers) != 1 or not isinstance(loggers[0], EnvStepLogger):
            refuse("Seeds are compared by EnvStepLogger's files. Leave out trainer.logger and trainer.fast_dev_run.")
        if (seed := self._get(self.config, "data")["seed"]) is not None:
            refuse(f"data.seed is {seed}, with which all seeds would play the same battles. Leave it out.")
        if (folder := self._get(self.config, "checkpoint")["dirpath"]) is not None:
            refuse(f"checkpoint.dirpath is {folder}, one folder for all seeds. Leave it out: each has its own.")
        super().after_instantiate_classes()

    def fit(self, **kwargs: Any) -> None:
        """Train nothing."""

    def after_fit(self) -> None:
        """There is nothing to report."""

    def resolved(self) -> dict[str, Any]:
        """Every option and its value, without those that differ from seed to seed or from machine to machine."""
        config: dict[str, Any] = json.loads(self.parser.dump(self.config, format="json", skip_none=False))["fit"]
        config["trainer"].pop("default_root_dir")
        return {key: config[key] for key in ("data", "model", "trainer", "checkpoint")}


def _rehearse(words: list[str]) -> tuple[Path, dict[str, Any]]:
    """The folder that a plain run with these words would have now, and its configuration."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Of words given beside those of the process: they are the same, less what is meant for the sweep.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        cli = _Rehearsal(["fit", *words])
    return Path(cli.trainer.log_dir or "."), cli.resolved()


@dataclass
class Sweep:
    """Runs that differ by their seed alone, in one folder, with a record of which are finished.

    Args:
        folder: Folder of the sweep, which has the runs' folders ``seed_1``, ``seed_2`` and so on.
        config: What all runs have in common.
        runs: By seed: whether it has finished, and the seconds it took.
    """

    folder: Path
    config: dict[str, Any]
    runs: dict[int, dict[str, Any]]

    @classmethod
    def begin(cls, words: list[str]) -> Sweep:
        """Begin a sweep in the folder that a plain run would have."""
        folder, config = _rehearse(words)
        if folder.exists() and any(folder.iterdir()):
            refuse(f"{relative(folder)} holds other runs. Choose an empty folder, or go on with --ckpt_path last.")
        return cls(folder, config, {})

    @classmethod
    def find(cls, path: str, words: list[str]) -> Sweep:
        """Find a sweep that was interrupted, or is to have more seeds; ``last`` begins one where there is none."""
        fresh, config = _rehearse(words)
        if path == "last":
            records = [*fresh.parent.glob(f"version_*/{_RECORD}"), *fresh.glob(_RECORD)]
        else:
            records = list(Path(path).glob(_RECORD))
        if not records and path == "last":
            say("resume:", f"there is no sweep in {relative(fresh.parent)} yet, training starts anew")
            return cls(fresh, config, {})
        if fresh / _RECORD not in records:
            # Made by the rehearsal, since a plain run would have begun.
            with suppress(OSError):
                fresh.rmdir()
        if not records:
            refuse(f"There is no sweep in {path} to go on with (no {_RECORD}). Leave out --ckpt_path to begin one.")
        record = max(records, key=lambda record: record.stat().st_mtime_ns)
        written = json.loads(record.read_text())
        if differing := list(_differences(written["config"], config)):
            refuse(
                f"{relative(record.parent)} was trained with {'; '.join(differing)}. Give what it was trained with, or"
                " leave out --ckpt_path to begin another."
            )
        return cls(record.parent, config, {int(seed): run for seed, run in written["seeds"].items()})

    def finished(self, seed: int) -> bool:
        """Whether a seed has been trained to its end."""
        return bool(self.runs.get(seed, {}).get("finished"))

    def job(self, seed: int, words: list[str]) -> Job:
        """What trains a seed, or goes on with it where it has a checkpoint."""
        folder = self.folder / f"seed_{seed}"
        logger = {"save_dir": self.folder.parent, "name": self.folder.name, "version": folder.name}
        own = [f"--seed_everything={seed}", "--trainer.logger=EnvStepLogger"]
        own += [f"--trainer.logger.{option}={value}" for option, value in logger.items()]
        if any((folder / "checkpoints").glob("*.ckpt")):
            own.append("--ckpt_path=last")
        elif folder.exists():
            # It ended before there was anything to go on from, but nothing is ever removed.
            folder.rename(next(aside for n in count() if not (aside := Path(f"{folder}.broken_off_{n}")).exists()))
        return Job(folder.name, ["fit", *words, *own], folder / "output.txt")

    def note(self, seed: int, job: Job) -> None:
        """Write down how a seed's training ended."""
        before = self.runs.get(seed, {}).get("seconds", 0.0)
        self.runs[seed] = {"finished": job.status == 0, "seconds": round(before + job.seconds, 1)}
        self.write()

    def write(self) -> None:
        """Write the record, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{_RECORD}.part"
        part.write_text(json.dumps({"seeds": self.runs, "config": self.config}, indent=1))
        part.replace(self.folder / _RECORD)

    def summary(self) -> Table:
        """A row a seed, and their median."""
        logged = {seed: read_scalars(self.folder / f"seed_{seed}") for seed in sorted(self.runs)}
        monitor = self.config["checkpoint"]["monitor"] or ""
        known = {tag for scalars in logged.values() for tag in scalars}
        tag = next((tag for tag in (monitor, _WINS) if tag.startswith("val/") and tag in known), _RETURNS)
        best = min if self.config["checkpoint"]["mode"] == "min" else max
        name = tag.removeprefix("val/").replace("_", " ")
        table = Table("seed", "env steps", f"{name} at the end", "at its best", "tested", "time", box=SIMPLE)
        for column in table.columns[1:]:
            column.justify = "right"
        rows: list[list[float]] = []
        for seed, scalars in logged.items():
            row = [math.nan] * 4
            if tag in scalars:
                steps, values = scalars[tag]
                row[:3] = float(steps[-1]), float(values[-1]), float(best(values))
            if (tested := tag.replace("val/", "test/")) in scalars:
                row[3] = float(scalars[tested][1][-1])
            rows.append([*row, self.runs[seed]["seconds"]])
            unfinished = "" if self.finished(seed) else " failed"
            table.add_row(f"{seed}{unfinished}", *_shown(rows[-1], tag), end_section=seed == max(logged))
        if len(rows) > 1:
            columns = [[value for value in column if not math.isnan(value)] for column in zip(*rows, strict=True)]
            medians = [statistics.median(column) if column else math.nan for column in columns]
            table.add_row("median", *_shown(medians, tag), style="bold")
        return table


def _shown(row: Sequence[float], tag: str) -> list[str]:
    steps, *values, seconds = row
    texts = [f"{steps:,.0f}", *(f"{value:.1%}" if tag == _WINS else f"{value:.2f}" for value in values)]
    times = str(timedelta(seconds=round(seconds)))
    return ["-" if text.startswith("nan") else text for text in (*texts, times)]


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield f"{key} {before}, and not {now}"
