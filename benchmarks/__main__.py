"""Run the benchmarks: ``python -m benchmarks [name] [options]``; ``--help`` lists their names."""

from __future__ import annotations

import argparse

import torch

from benchmarks import (
    battle,
    demo,
    gpu,
    jaxmarl_training,
    learners,
    lightning_share,
    loss,
    precision,
    rollout,
    sampling,
    saving,
    update,
    workers,
)
from benchmarks.timing import show

SCRIPTS = {
    "battle": battle, "rollout": rollout, "loss": loss, "update": update, "learners": learners,
    "lightning": lightning_share, "sampling": sampling, "saving": saving, "precision": precision, "demo": demo,
    "workers": workers, "gpu": gpu, "jaxmarl": jaxmarl_training,
}  # fmt: skip


def main(args: list[str] | None = None) -> None:
    """Measure, and print the tables at the end."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="All but learners, precision, demo, gpu and jaxmarl, if none is named."
    )
    commands = parser.add_subparsers(dest="command")
    for name, script in SCRIPTS.items():
        command = commands.add_parser(
            name,
            description=script.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        script.add_arguments(command)
    options, rest = parser.parse_known_args(args)
    options.rest = rest
    if rest and options.command not in ("demo", "precision"):
        parser.error(f"unknown arguments {' '.join(rest)}; python -m benchmarks {options.command or ''} --help")
    torch.set_num_threads(1)
    if options.command is not None:
        show(SCRIPTS[options.command].run(options))
    else:
        chosen = ("battle", "rollout", "loss", "update", "lightning", "sampling", "saving", "workers")
        show([table for name in chosen for table in SCRIPTS[name].run(parser.parse_args([name]))])


if __name__ == "__main__":
    main()
