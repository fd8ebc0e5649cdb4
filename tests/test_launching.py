from __future__ import annotations

import re
from typing import Any

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from qmix_lightning.launching import (
    check_world_size,
    cluster_plugins,
    launched_processes,
    settled_arguments,
    trainer_defaults,
)


def torchrun(nodes: int = 1, here: int = 2, **more: str) -> dict[str, str]:
    """What a process sees that torchrun has started."""
    world = {"WORLD_SIZE": str(nodes * here), "LOCAL_WORLD_SIZE": str(here), "GROUP_WORLD_SIZE": str(nodes)}
    return {"TORCHELASTIC_RUN_ID": "none", **world, **more}


def fabric_run(devices: str = "2", nodes: int = 1, **more: str) -> dict[str, str]:
    """What a process sees that fabric run has started, which leaves the starting to torchrun."""
    told = {"LT_CLI_USED": "1", "LT_DEVICES": devices, "LT_NUM_NODES": str(nodes)}
    return torchrun(nodes, 2, **told, **{f"LT_{name.upper()}": value for name, value in more.items()})


def slurm(nodes: int = 1, here: int = 2, **more: str) -> dict[str, str]:
    """What a task sees that srun has started."""
    counts = {"SLURM_NTASKS": str(nodes * here), "SLURM_NTASKS_PER_NODE": str(here), "SLURM_NNODES": str(nodes)}
    return {"SLURM_JOB_NAME": "train", **counts, **more}


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, 1),
        ({"WORLD_SIZE": "4"}, 1),  # a variable that anything may leave behind
        ({"TORCHELASTIC_RUN_ID": "none"}, 1),  # left behind, too
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, 1),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}, 4),
        (slurm(), 2),
        (slurm() | {"SLURM_JOB_NAME": "interactive"}, 1),
        (slurm() | {"SLURM_JOB_NAME": "bash"}, 1),
        (slurm() | torchrun(here=4), 4),  # torchrun, started by srun
    ],
    ids=str,
)
def test_launchers_say_how_many_processes_there_are(environment: dict[str, str], processes: int) -> None:
    assert launched_processes(environment) == processes


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, {}),
        ({"LT_DEVICES": "2", "LT_PRECISION": "bf16-mixed"}, {}),  # left behind by a shell; nobody has launched this
        (torchrun(), {"devices": 2, "num_nodes": 1}),
        (torchrun(nodes=2), {"devices": 2, "num_nodes": 2}),
        (fabric_run(), {"devices": 2, "num_nodes": 1}),
        (fabric_run("auto"), {"devices": 2, "num_nodes": 1}),
        (fabric_run("-1"), {"devices": 2, "num_nodes": 1}),
        (fabric_run("0,2", nodes=2), {"devices": [0, 2], "num_nodes": 2}),
        (torchrun(here=1, LT_DEVICES="2,"), {"devices": [2], "num_nodes": 1}),
        (
            fabric_run(accelerator="cpu", strategy="ddp", precision="bf16-mixed"),
            {"devices": 2, "num_nodes": 1, "accelerator": "cpu", "strategy": "ddp", "precision": "bf16-mixed"},
        ),
        (fabric_run(precision="bf16"), {"devices": 2, "num_nodes": 1, "precision": "bf16-mixed"}),
        (slurm(), {"devices": 2, "num_nodes": 1}),
        (slurm(nodes=2, here=4), {"devices": 4, "num_nodes": 2}),
    ],
    ids=str,
)
def test_a_trainer_is_told_what_its_launcher_was_told(environment: dict[str, str], arguments: dict[str, Any]) -> None:
    assert trainer_defaults(environment) == arguments


@pytest.mark.parametrize(
    ("environment", "asked", "settled"),
    [
        ({}, {"devices": 4}, {}),
        (torchrun(), {"devices": 2, "num_nodes": 1}, {"devices": 2, "num_nodes": 1}),
        (torchrun(), {"devices": "2", "num_nodes": 1}, {"devices": 2, "num_nodes": 1}),
        (torchrun(), {"devices": "auto", "num_nodes": 1}, {"devices": 2, "num_nodes": 1}),
        (torchrun(), {"devices": -1, "num_nodes": 1}, {"devices": 2, "num_nodes": 1}),
        # Only one of the two says which GPUs.
        (torchrun(), {"devices": "1,3", "num_nodes": 1}, {"devices": [1, 3], "num_nodes": 1}),
        (fabric_run("1,3"), {"devices": 2, "num_nodes": 1}, {"devices": [1, 3], "num_nodes": 1}),
        (fabric_run("1,3"), {"devices": [1, 3], "num_nodes": 1}, {"devices": [1, 3], "num_nodes": 1}),
        (
            fabric_run(precision="bf16", accelerator="cpu", strategy="ddp"),
            {"devices": 2, "num_nodes": 1, "precision": "bf16-mixed", "accelerator": "auto", "strategy": "auto"},
            {"devices": 2, "num_nodes": 1, "precision": "bf16-mixed", "accelerator": "cpu", "strategy": "ddp"},
        ),
        (
            fabric_run(precision="16-mixed"),
            {"devices": 2, "num_nodes": 1, "precision": 16, "accelerator": "cuda"},
            {"devices": 2, "num_nodes": 1, "precision": "16-mixed"},
        ),
        (slurm(), {"max_steps": 1}, {"devices": 2, "num_nodes": 1}),
    ],
    ids=str,
)
def test_of_launcher_and_trainer_the_one_that_says_more_is_believed(
    environment: dict[str, str], asked: dict[str, Any], settled: dict[str, Any]
) -> None:
    assert settled_arguments(asked, environment) == settled


@pytest.mark.parametrize(
    ("environment", "asked", "words"),
    [
        (torchrun(), {"devices": 1}, "trainer.devices is 1, but the launcher, torchrun, was told --nproc-per-node 2."),
        (
            torchrun(nodes=2),
            {"num_nodes": 1},
            "trainer.num_nodes is 1, but the launcher, torchrun, was told --nnodes 2.",
        ),
        (fabric_run(), {"devices": 1}, "trainer.devices is 1, but the launcher, fabric run, was told --devices 2."),
        (
            fabric_run("0,2"),
            {"devices": "0,1"},
            "trainer.devices is 0,1, but the launcher, fabric run, was told --devices 0,2.",
        ),
        (
            fabric_run(precision="bf16-mixed"),
            {"precision": "32-true"},
            "trainer.precision is 32-true, but the launcher, fabric run, was told --precision bf16-mixed.",
        ),
        (
            fabric_run(accelerator="cpu"),
            {"accelerator": "cuda"},
            "trainer.accelerator is cuda, but the launcher, fabric run, was told --accelerator cpu.",
        ),
        (
            fabric_run(strategy="ddp"),
            {"strategy": "fsdp"},
            "trainer.strategy is fsdp, but the launcher, fabric run, was told --strategy ddp.",
        ),
        (slurm(), {"devices": 4}, "trainer.devices is 4, but the launcher, SLURM, was told --ntasks-per-node 2."),
    ],
)
def test_a_trainer_that_contradicts_its_launcher_is_refused(
    environment: dict[str, str], asked: dict[str, Any], words: str
) -> None:
    name = next(iter(asked))
    with pytest.raises(ValueError, match=re.escape(f"{words} Leave trainer.{name} out, or make both equal.")):
        settled_arguments(asked, environment)


def test_tasks_that_nobody_counted_by_node_are_refused() -> None:
    environment = slurm(nodes=2)
    del environment["SLURM_NTASKS_PER_NODE"]
    with pytest.raises(ValueError, match=r"SLURM's 4 tasks run on each node, got --ntasks alone. Use --nodes=2 and"):
        settled_arguments({}, environment)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (torchrun(nodes=2) | {"WORLD_SIZE": "3"}, "got 2 on this one of 2 and 3 in all. Use the same --nproc-per-node"),
        (slurm(nodes=2) | {"SLURM_NTASKS": "3"}, "got 2 on this one of 2 and 3 in all. Use the same --ntasks-per-node"),
    ],
    ids=["torchrun", "SLURM"],
)
def test_nodes_of_different_size_are_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Expected as many processes on every node, {words} on all nodes.")):
        settled_arguments({}, environment)


@pytest.mark.parametrize("environment", [torchrun(), fabric_run(), slurm()], ids=["torchrun", "fabric run", "SLURM"])
def test_trainings_that_would_know_nothing_of_each_other_are_refused(environment: dict[str, str]) -> None:
    check_world_size(2, environment)
    with pytest.raises(ValueError, match=r"trains with the 2 processes that .* has started, got one of 1: each"):
        check_world_size(1, environment)


def test_under_slurm_lightning_leaves_signals_alone() -> None:
    (plugin,) = cluster_plugins(slurm())
    assert isinstance(plugin, SLURMEnvironment)
    assert not plugin.auto_requeue
    assert cluster_plugins(torchrun()) == cluster_plugins({}) == []


def test_a_trainer_may_start_processes_of_its_own_where_no_launcher_did() -> None:
    check_world_size(2, {})
