"""Who started this process, and as one of how many."""

from __future__ import annotations

import os
from collections.abc import Mapping


def launched_processes(environment: Mapping[str, str] | None = None) -> int:
    """How many processes a launcher has started, of which this is one.

    Lightning goes by what its Trainer is told: N processes whose Trainers train with one device each become N trainings
    that know nothing of each other and write over each other's files.

    Args:
        environment: Variables that the launcher has set; None reads the process's own.

    Returns:
        The number of processes under ``torchrun``, ``fabric run`` or a SLURM job; 1 without a launcher, and in an
        interactive SLURM session, where a command is started by hand.

    Example:
        >>> launched_processes({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"})
        2
    """
    environment = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in environment:
        return int(environment["WORLD_SIZE"])
    if environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return 1
    return int(environment.get("SLURM_NTASKS", 1))


def alone(launched: int) -> str:
    """What to say to one of several processes, as long as battles are played by one."""
    return (
        f"Launched as one of {launched} processes, but battles are played by one so far: each would train a model of"
        " its own. Start it once, without a launcher or with one process."
    )
