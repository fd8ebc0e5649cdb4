"""What TorchRL's QMIX keeps, copies and counts wrongly: each test fails on its behaviour and passes on ours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from tensordict import TensorDict
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.parity.libraries import (
    OBS,
    SILENCE,
    TORCHRL,
    A,
    Categorical,
    Library,
    N,
    World,
    both,
    leaves,
    td_error,
    transitions,
)
from tests.training import LIGHTNINGS_OWN_WARNING, quiet_trainer

pytestmark = SILENCE

NETWORKS = ("local_value_network", "mixer_network")


def targets_and_sources(loss: Any) -> list[tuple[Tensor, Tensor]]:
    """Every parameter and buffer of the targets, beside the one of the networks."""
    pairs = []
    for name in NETWORKS:
        targets, sources = (leaves(getattr(loss, f"{of}{name}_params")) for of in ("target_", ""))
        assert targets.keys() == sources.keys()
        pairs += [(targets[key], sources[key]) for key in targets]
    return pairs


def in_step(loss: Any) -> bool:
    return all(torch.equal(target, source) for target, source in targets_and_sources(loss))


@both(AssertionError)
def test_d07_the_first_forward_adds_nothing_to_the_state_dict(lib: Library) -> None:
    world = World(lib)
    loss = lib.QMixerLoss(world.local, world.mixing, action_space="categorical")
    before = loss.state_dict().keys()
    loss(transitions(20))
    assert loss.state_dict().keys() == before


@both(RuntimeError)
def test_d07_torchrls_checkpoints_load_into_a_new_loss_with_or_without_its_discount(lib: Library) -> None:
    theirs, ours, td = World(TORCHRL), World(lib), transitions(20)
    written = theirs.lib.QMixerLoss(theirs.local, theirs.mixing, action_space="categorical")
    without = written.state_dict()
    written.make_value_estimator("td0", gamma=0.5)
    for checkpoint in (without, written.state_dict()):
        loss = lib.QMixerLoss(ours.local, ours.mixing, action_space="categorical")
        loss.load_state_dict(checkpoint)
    torch.testing.assert_close(td_error(loss, td), td_error(written, td))


class Learner(LightningModule):
    def __init__(self, lib: Library) -> None:
        super().__init__()
        world = World(lib)
        self.loss = lib.QMixerLoss(world.local, world.mixing, action_space="categorical")

    def training_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        return self.loss(batch)["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@both(RuntimeError)
@pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)
def test_d07_lightning_reloads_what_it_trained(lib: Library, tmp_path: Path) -> None:
    learner, trainer = Learner(lib), quiet_trainer(1)
    trainer.fit(learner, repeat(transitions(20), 1))
    trainer.save_checkpoint(tmp_path / "learner.ckpt")
    again = Learner.load_from_checkpoint(tmp_path / "learner.ckpt", lib=lib)
    for name, value in learner.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@both(RuntimeError)
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_d08_entries_can_be_passed_by_name(lib: Library, mixer: str) -> None:
    world, td = World(lib, mixer), transitions(20)
    entries = {key if isinstance(key, str) else "_".join(key): value for key, value in td.items(True, True)}
    if mixer == "vdn":
        del entries["state"], entries["next_state"]
    loss = world.loss(**entries)
    assert torch.equal(loss, world.loss(td)["loss"])


@both(AssertionError)
def test_d08_in_keys_have_one_order_in_every_process(lib: Library) -> None:
    script = f"""
from tensordict.nn import TensorDictModule
from torch import nn
from {lib.QMixerLoss.__module__} import QMixerLoss
from {lib.QMixer.__module__} import QMixer
local = TensorDictModule(nn.Linear(5, 4), [("agents", "observation")], [("agents", "action_value")])
mixer = TensorDictModule(QMixer((6,), 8, 3, "cpu"), [("agents", "chosen_action_value"), "state"], ["joint_value"])
print(QMixerLoss(local, mixer, action_space="categorical").in_keys)
"""
    printed = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1] != ""


@both(AssertionError)
def test_d15_a_hard_update_copies_at_every_nth_step(lib: Library) -> None:
    world = World(lib)
    update = lib.HardUpdate(world.loss, value_network_update_interval=3)
    copied = []
    for _ in range(9):
        world.perturb()
        update.step()
        copied.append(in_step(world.loss))
    assert copied == [False, False, True] * 3


@both(AssertionError)
def test_d16_the_mode_of_the_loss_reaches_its_networks(lib: Library) -> None:
    world = World(lib, net=nn.Sequential(nn.Linear(OBS, A), nn.Dropout()))
    assert world.loss.eval().training is False
    assert not any(module.training for network in (world.net, world.mixer) for module in network.modules())
    td = transitions(20)
    assert torch.equal(td_error(world.loss, td), td_error(world.loss, td))
    world.loss.train()
    assert all(module.training for network in (world.net, world.mixer) for module in network.modules())


@both(AssertionError)
def test_d16_targets_have_no_noise_of_training(lib: Library) -> None:
    world = World(lib, "vdn", net=nn.Sequential(nn.Linear(OBS, A), nn.Dropout()))
    # The online values are zero, dropped out or not: all noise is the targets'.
    for parameter in world.net.parameters():
        nn.init.zeros_(parameter)
    world.loss.train()
    td = transitions(20)
    errors = td_error(world.loss, td)
    assert world.net.training
    world.target_net.eval()
    torch.testing.assert_close(errors, world.target(td).square())


@both(AssertionError)
def test_d16_statistics_of_targets_change_by_their_update_alone(lib: Library) -> None:
    world = World(lib, net=nn.Sequential(nn.BatchNorm1d(N), nn.Linear(OBS, A)))
    update = lib.HardUpdate(world.loss, value_network_update_interval=1)
    world.loss.train()
    before = [target for target, _ in targets_and_sources(world.loss)]
    world.loss(transitions(20))
    after = targets_and_sources(world.loss)
    assert all(torch.equal(old, target) for old, (target, _) in zip(before, after, strict=True))
    assert not in_step(world.loss)
    update.step()
    assert in_step(world.loss)


@both(AssertionError)
def test_d21_after_a_reset_the_targets_are_the_networks(lib: Library) -> None:
    loss = World(lib).loss
    before = [source for _, source in targets_and_sources(loss)]
    loss.reset_parameters_recursive()
    assert in_step(loss)
    assert not any(torch.equal(old, new) for old, (_, new) in zip(before, targets_and_sources(loss), strict=True))


@both(AssertionError)
@pytest.mark.parametrize(("update", "options"), [("SoftUpdate", {"tau": 0.5}), ("HardUpdate", {})])
def test_d21_making_an_update_leaves_the_targets_alone(lib: Library, update: str, options: dict[str, float]) -> None:
    loss = World(lib).loss
    before = [target for target, _ in targets_and_sources(loss)]
    getattr(lib, update)(loss, **options)
    assert all(torch.equal(old, new) for old, (new, _) in zip(before, targets_and_sources(loss), strict=True))


@both(AssertionError)
def test_d22_errors_once_read_do_not_change(lib: Library) -> None:
    world, td = World(lib), transitions(20)
    world.loss(td)
    first = td["td_error"]
    remembered = first.clone()
    world.perturb()
    world.loss(td)
    assert not torch.equal(td["td_error"], remembered)
    assert torch.equal(first, remembered)


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(function: Any, *args: Any) -> int:
    with Operations() as operations:
        function(*args)
    return operations.count


@both(AssertionError)
def test_d24_exploration_steps_over_any_number_of_frames_at_once(lib: Library) -> None:
    def explore() -> Any:
        return lib.EGreedyModule(Categorical(A), eps_init=1.0, eps_end=0.25, annealing_num_steps=1000)

    once, pieces = explore(), explore()
    assert operations(once.step, 700) == operations(explore().step, 1)
    for frames in (1, 299, 400):
        pieces.step(frames)
    torch.testing.assert_close(once.eps, pieces.eps)
    torch.testing.assert_close(once.eps, torch.as_tensor(1 - 0.75 * 0.7).to(once.eps))
    once.step(10**12)
    assert once.eps == 0.25


@both(AssertionError)
def test_d24_a_soft_update_takes_as_many_operations_for_many_layers_as_for_few(lib: Library) -> None:
    def update(layers: int) -> Any:
        net = nn.Sequential(nn.Linear(OBS, A), *(nn.Linear(A, A) for _ in range(layers)))
        return lib.SoftUpdate(World(lib, net=net).loss, eps=0.5)

    assert operations(update(8).step) == operations(update(1).step)


@both(AssertionError)
def test_d24_the_loss_looks_for_no_package_on_the_disk(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    world, td, looked_for = World(lib), transitions(20), []
    world.loss(td)
    monkeypatch.setattr(importlib.util, "find_spec", looked_for.append)
    world.loss(td)
    assert looked_for == []
