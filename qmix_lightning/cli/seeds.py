"""``qmix fit --seeds 1,2,3 --config …``: one training a seed, in one folder, to be compared."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from qmix_lightning.cli.options import OptionParser
from qmix_lightning.cli.side_by_side import side_by_side
from qmix_lightning.cli.sweep import Sweep
from qmix_lightning.cli.words import refuse, relative, say
from qmix_lightning.launching import launched_processes

_LARGEST_SEED = 2**32 - 1


def main(words: list[str]) -> None:
    """Train once for every seed: ``qmix fit --seeds 1,2,3 …``.

    Args:
        words: Words after ``qmix fit``.

    Raises:
        SystemExit: With status 1 if a seed failed, 2 if the words are wrong, 130 if it was interrupted.
    """
    options, words = _parsed(words)
    sweep = Sweep.begin(words) if options.ckpt_path is None else Sweep.find(options.ckpt_path, words)
    if done := [str(seed) for seed in options.seeds if sweep.finished(seed)]:
        say(f"finished before in {relative(sweep.folder)}:", f"seed {', '.join(done)}")
    jobs = {seed: sweep.job(seed, words) for seed in options.seeds if not sweep.finished(seed)}
    sweep.write()
    console = Console()
    try:
        with (
            interrupted_by(signal.SIGTERM, signal.SIGHUP),
            closing(side_by_side(list(jobs.values()), options.jobs, console)) as ended,
        ):
            for job in ended:
                sweep.note(next(seed for seed in jobs if jobs[seed] is job), job)
    except KeyboardInterrupt:
        say("interrupted:", f"the same words go on with --ckpt_path {shlex.quote(relative(sweep.folder))}")
        raise SystemExit(130) from None
    console.print(sweep.summary())
    folder = shlex.quote(relative(sweep.folder))
    say("curves:", f"{shlex.quote(relative(Path(sys.executable).parent / 'tensorboard'))} --logdir {folder}")
    say("figure:", f"qmix plot {folder}")
    failed = [job for job in jobs.values() if job.status != 0]
    for job in failed:
        say(f"{job.name} failed with status {job.status}.", f"{relative(job.output)} ends with:")
        console.print(job.tail(2_000).strip() or "nothing", highlight=False, markup=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _parsed(words: list[str]) -> tuple[Namespace, list[str]]:
    parser = OptionParser(
        "qmix fit --seeds",
        "Train once for every seed, each in a process and a folder of its own: logs/battle-3m/version_0/seed_1, seed_2"
        " and so on. All other words are those of qmix fit.",
    )
    parser.add_argument("--seeds", type=_seeds, required=True, help="as in 1,2,3 or 1-5")
    parser.add_argument("--jobs", type=_jobs, default=1, help="how many train at a time, dividing the cores (1)")
    parser.add_argument(
        "--ckpt_path", metavar="last", help="go on with the newest sweep, or with that in a folder; finished seeds stay"
    )
    options, others = parser.parse_known_args(words)
    if any(word.split("=")[0] == "--seed_everything" for word in others):
        refuse("The seeds are those of --seeds. Leave out --seed_everything.")
    if (launched := launched_processes()) > 1:
        refuse(f"Launched as one of {launched} processes, each of which would train all seeds. Start --seeds once.")
    return options, others


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        if not (found := re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)):
            raise ArgumentTypeError(f"expected whole numbers as in 1,2,3 or 1-5, got {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last <= _LARGEST_SEED:
            raise ArgumentTypeError(f"expected rising seeds up to {_LARGEST_SEED}, got {part.strip()!r}")
        seeds += range(first, last + 1)
    if twice := [str(seed) for seed, times in sorted(Counter(seeds).items()) if times > 1]:
        raise ArgumentTypeError(f"expected every seed once, got {', '.join(twice)} again")
    return seeds


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"expected how many runs train at a time, from 1, got {text!r}")
    return int(text)


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let other signals interrupt as Ctrl-C does, so that what is running is stopped."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
