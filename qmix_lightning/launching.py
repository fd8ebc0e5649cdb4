"""Who started this process, as one of how many, and what the Trainer must therefore be told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

_OPTIONS: dict[str, dict[str, str]] = {
    "torchrun": {"devices": "--nproc-per-node", "num_nodes": "--nnodes"},
    "fabric run": {
        "devices": "--devices",
        "num_nodes": "--num-nodes",
        "accelerator": "--accelerator",
        "strategy": "--strategy",
        "precision": "--precision",
    },
    "SLURM": {"devices": "--ntasks-per-node", "num_nodes": "--nodes"},
}
"""The Trainer's arguments that each launcher decides, and what they are called there."""

_LEFT_OPEN = (None, "auto", -1, "-1")
"""Values of an argument which leave the choice to somebody else."""

_SHORT_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


@dataclass(frozen=True)
class Launch:
    """What a launcher has told each of the processes that it started.

    Args:
        launcher: ``torchrun``, ``fabric run`` or ``SLURM``.
        processes: Number of processes over all nodes.
        devices: Number of processes on this node, or the numbers of the GPUs they use.
        num_nodes: Number of nodes.
        accelerator: Kind of device; None leaves it open, as for the next two.
        strategy: Lightning's name of the way to train on several devices.
        precision: Lightning's name of the precision.
    """

    launcher: str
    processes: int
    devices: int | list[int]
    num_nodes: int
    accelerator: str | None = None
    strategy: str | None = None
    precision: str | None = None


def read_launch(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Read what a launcher has left in the environment.

    Args:
        environment: Variables that the launcher has set; None reads the process's own.

    Returns:
        What it said; None for a process that no launcher has started, and in an interactive SLURM session, where
        commands are started by hand.

    Example:
        >>> read_launch({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
        Launch(launcher='torchrun', processes=4, devices=2, num_nodes=2, ...)
    """
    said = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in said:
        processes = int(said.get("WORLD_SIZE", 1))  # Lightning's reading, too.
        here = int(said.get("LOCAL_WORLD_SIZE", processes))
        chosen = said.get("LT_DEVICES", "")
        return Launch(
            launcher="fabric run" if "LT_CLI_USED" in said else "torchrun",
            processes=processes,
            # A single number with a comma behind it is a GPU, not a count.
            devices=_gpus(chosen) if "," in chosen else here,
            num_nodes=int(said.get("GROUP_WORLD_SIZE", processes // here)),
            accelerator=said.get("LT_ACCELERATOR"),
            strategy=said.get("LT_STRATEGY"),
            precision=said.get("LT_PRECISION"),
        )
    if "SLURM_NTASKS" in said and said.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        processes, nodes = int(said["SLURM_NTASKS"]), int(said.get("SLURM_NNODES", 1))
        return Launch(
            launcher="SLURM",
            processes=processes,
            devices=int(said.get("SLURM_NTASKS_PER_NODE", processes // nodes)),
            num_nodes=nodes,
        )
    return None


def launched_processes(environment: Mapping[str, str] | None = None) -> int:
    """How many processes a launcher has started, of which this is one; 1 without a launcher.

    Example:
        >>> launched_processes({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"})
        2
    """
    launch = read_launch(environment)
    return 1 if launch is None else launch.processes


def trainer_defaults(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of Lightning's Trainer that follow from how this process was started.

    The Trainer finds its launcher by itself, but not what that was told: without these arguments, N processes train N
    models that know nothing of each other. Nothing is returned for a process that no launcher has started.

    Args:
        environment: Variables that the launcher has set; None reads the process's own.

    Example:
        >>> trainer_defaults({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LT_PRECISION": "bf16-mixed"})
        {'devices': 2, 'num_nodes': 1, 'precision': 'bf16-mixed'}
        >>> trainer_defaults({})
        {}
    """
    launch = read_launch(environment)
    if launch is None:
        return {}
    given = {name: getattr(launch, name) for name in _OPTIONS["fabric run"] if getattr(launch, name) is not None}
    if launch.precision is not None:
        given["precision"] = _precision(launch.precision)
    return given


def cluster_plugins(environment: Mapping[str, str] | None = None) -> list[ClusterEnvironment]:
    """Plugins that Lightning's Trainer needs under this launcher: under SLURM, one that leaves the signal USR1 alone.

    Lightning's own answer to it saves a checkpoint wherever each process happens to be, and so two processes wait for
    each other for ever. Without that answer the signal ends the training, as any other does, and a job that is queued
    again goes on from its last checkpoint.

    Args:
        environment: Variables that the launcher has set; None reads the process's own.

    Example:
        >>> cluster_plugins({})
        []
    """
    launch = read_launch(environment)
    if launch is None or launch.launcher != "SLURM":
        return []
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return [SLURMEnvironment(auto_requeue=False)]


def settled_arguments(asked: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Bring what the Trainer was asked for together with what its launcher was told.

    Args:
        asked: The Trainer's arguments; those of :func:`trainer_defaults` where nobody asked for something else.
        environment: Variables that the launcher has set; None reads the process's own.

    Returns:
        The arguments that the launcher decides. Where one of the two leaves it open (``auto``), or names the GPUs that
        the other only counts, the one that says more is taken.

    Raises:
        ValueError: If the two contradict each other, or the launcher has not started as many processes on every node.

    Example:
        >>> torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}
        >>> settled_arguments({"devices": "0,2", "num_nodes": 1}, torchrun)
        {'devices': [0, 2], 'num_nodes': 1}
    """
    launch = read_launch(environment)
    if launch is None:
        return {}
    _refuse_uneven(launch, os.environ if environment is None else environment)
    given = trainer_defaults(environment)
    return {
        name: _settle(launch.launcher, name, asked.get(name), given[name])
        for name in _OPTIONS[launch.launcher]
        if name in given
    }


def check_world_size(world_size: int, environment: Mapping[str, str] | None = None) -> None:
    """Make sure that a Trainer uses all processes that were launched.

    Args:
        world_size: The Trainer's number of processes.
        environment: Variables that the launcher has set; None reads the process's own.

    Raises:
        ValueError: If the launcher has started another number of processes.
    """
    launch = read_launch(environment)
    if launch is not None and launch.processes != world_size:
        raise ValueError(
            f"Expected a Trainer that trains with the {launch.processes} processes that {launch.launcher} has started,"
            f" got one of {world_size}: each process would train a model of its own. Give it what the launcher was"
            " told: Trainer(**trainer_defaults())."
        )


def _refuse_uneven(launch: Launch, said: Mapping[str, str]) -> None:
    option, here = _OPTIONS[launch.launcher]["devices"], _number(launch.devices)
    if launch.launcher == "SLURM" and launch.processes > 1 and "SLURM_NTASKS_PER_NODE" not in said:
        raise ValueError(
            f"Expected to be told how many of SLURM's {launch.processes} tasks run on each node, got --ntasks alone."
            f" Use --nodes={launch.num_nodes} and --ntasks-per-node={here} instead."
        )
    if here * launch.num_nodes != launch.processes:
        raise ValueError(
            f"Expected as many processes on every node, got {here} on this one of {launch.num_nodes} and"
            f" {launch.processes} in all. Use the same {option} on all nodes."
        )


def _settle(launcher: str, name: str, asked: Any, given: Any) -> Any:
    if asked in _LEFT_OPEN:
        return given
    settled = given
    if name == "devices":
        mine, told = _gpus(asked), _gpus(given)
        agree = mine == told or (_number(mine) == _number(told) and int in (type(mine), type(told)))
        settled = mine if isinstance(mine, list) else told
    elif name == "precision":
        agree = _precision(asked) == given
    else:
        agree = asked == given
    if not agree:
        raise ValueError(
            f"trainer.{name} is {_words(asked)}, but the launcher, {launcher}, was told"
            f" {_OPTIONS[launcher][name]} {_words(given)}. Leave trainer.{name} out, or make both equal."
        )
    return settled


def _gpus(devices: int | str | list[int]) -> int | list[int]:
    """Their numbers, or how many."""
    if isinstance(devices, str):
        return [int(number) for number in devices.split(",") if number] if "," in devices else int(devices)
    return devices


def _number(devices: int | list[int]) -> int:
    return len(devices) if isinstance(devices, list) else devices


def _precision(name: str | int) -> str:
    return _SHORT_PRECISIONS.get(str(name), str(name))


def _words(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
