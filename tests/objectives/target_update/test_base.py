"""What both ways of updating targets promise."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import nn

from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.objectives.target_update.base import AbstractTargetUpdate
from qmix_lightning.objectives.target_update.hard import HardUpdate
from qmix_lightning.objectives.target_update.soft import SoftUpdate
from tests.objectives.target_update.targets import train, weights
from tests.objectives.worlds import OBS, A, N, make_loss

Make = Callable[[nn.Module], AbstractTargetUpdate]


def every_step(loss: nn.Module) -> HardUpdate:
    return HardUpdate(loss, value_network_update_interval=1)


def all_the_way(loss: nn.Module) -> SoftUpdate:
    return SoftUpdate(loss, tau=1.0)


COPYING = pytest.mark.parametrize("make", [every_step, all_the_way])
"""Both, with the options by which a step is a copy."""


def params(module: nn.Module) -> TensorDictParams:
    return TensorDict.from_module(module, as_module=True)


def copied(tree: TensorDictParams) -> TensorDictParams:
    return TensorDictParams(tree.data.clone(), no_convert=True)


def foreign(online: nn.Module | None, target: TensorDictParams | None) -> nn.Module:
    module = nn.Module()
    if online is not None:
        module.net_params = params(online)
    if target is not None:
        module.target_net_params = target
    return module


@COPYING
def test_a_step_makes_the_targets_equal(make: Make) -> None:
    loss = make_loss()
    update = make(loss)
    for _ in range(2):
        train(loss)
        assert not torch.equal(weights(loss, "target_"), weights(loss))
        update.step()
        assert torch.equal(weights(loss, "target_"), weights(loss))


@COPYING
def test_init_copies_now_whatever_the_options(make: Make) -> None:
    for update in (make(make_loss()), HardUpdate(make_loss()), SoftUpdate(make_loss(), tau=0.0)):
        update.init_()
        loss = update.loss_module
        assert isinstance(loss, QMixerLoss)
        assert torch.equal(weights(loss, "target_"), weights(loss))


@COPYING
def test_making_an_updater_leaves_the_targets_alone_and_ends_the_warning(make: Make) -> None:
    loss = make_loss()
    loss.has_target_update = False
    before = weights(loss, "target_")
    make(loss)
    assert torch.equal(weights(loss, "target_"), before)
    assert loss.has_target_update


@COPYING
def test_an_updater_holds_neither_parameters_nor_the_loss(make: Make) -> None:
    loss = make_loss()
    update = make(loss)
    assert update.loss_module is loss
    assert not list(update.parameters())
    assert not list(update.children())


@COPYING
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_together_with_the_loss_updates_that_copy(make: Make, duplicate: Callable) -> None:  # type: ignore[type-arg]
    loss = make_loss()
    update = make(loss)
    update.step()
    twin, other = duplicate(nn.ModuleList([loss, update])).float()
    train(twin)
    other.step()
    assert weights(twin).dtype == torch.float32
    assert torch.equal(weights(twin), weights(twin, "target_"))
    assert not torch.equal(weights(twin), weights(loss, "target_").float())


def cast(loss: QMixerLoss) -> None:
    loss.float()


def assign(loss: QMixerLoss) -> None:
    loss.target_mixer_network_params = copied(loss.mixer_network_params)


def rebind(loss: QMixerLoss) -> None:
    nn.utils.vector_to_parameters(torch.randn_like(weights(loss)), loss.parameters())


def load(loss: QMixerLoss) -> None:
    loss.load_state_dict({name: torch.randn_like(value) for name, value in loss.state_dict().items()})


@COPYING
@pytest.mark.parametrize("exchange", [cast, assign, rebind, load])
def test_it_follows_when_the_tensors_of_the_loss_are_exchanged(
    make: Make, exchange: Callable[[QMixerLoss], None]
) -> None:
    loss = make_loss()
    update = make(loss)
    update.step()
    exchange(loss)
    train(loss)
    update.step()
    assert torch.equal(weights(loss, "target_"), weights(loss))


@COPYING
def test_targets_of_other_sizes_are_refused_whenever_they_are_assigned_and_nothing_is_lost(make: Make) -> None:
    module = foreign(nn.Linear(2, 3), copied(params(nn.Linear(2, 3))))
    update, before = make(module), module.target_net_params
    module.target_net_params = copied(params(nn.Linear(2, 4)))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Incongruent .* target_net_params is {'bias': \[4\]"):
            update.step()
    module.target_net_params = before
    update.step()
    assert (before == module.net_params).all()


@COPYING
def test_running_statistics_follow_too(make: Make) -> None:
    net = nn.Sequential(nn.Linear(OBS, A), nn.BatchNorm1d(N))
    loss = QMixerLoss(net, VDNMixer(N), layout="episode")
    update = make(loss)
    net(torch.randn(8, N, OBS))
    update.step()
    for name, buffer in net[1].named_buffers():
        assert torch.equal(loss.target_local_value_network_params["module", "1", name], buffer)


@COPYING
def test_any_module_with_parameters_and_targets_will_do(make: Make) -> None:
    module = foreign(nn.Linear(2, 3), copied(params(nn.Linear(2, 3))))
    make(module).step()
    assert (module.target_net_params == module.net_params).all()
    assert not hasattr(module, "has_target_update")


def test_a_loss_of_torchrls_will_do_and_stops_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchrl.objectives import DQNLoss
    loss = DQNLoss(nn.Linear(3, 4), action_space="one_hot", delay_value=True)
    update = SoftUpdate(loss, tau=0.25)
    before = loss.target_value_network_params.data.clone()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.normal_()
    update.step()
    moved = before.lerp(loss.value_network_params.data, 0.25)
    torch.testing.assert_close(loss.target_value_network_params.data.to_dict(), moved.to_dict())


@COPYING
def test_what_cannot_be_updated_is_refused(make: Make) -> None:
    for other in (nn.Linear(2, 3), nn.ModuleDict({"loss": make_loss()}), "loss"):
        with pytest.raises(ValueError, match=r"^The loss_module must be a LossModule instance.* Give the loss itself"):
            make(other)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"^Did not find any target parameters or buffers in the loss module.*delay"):
        make(make_loss(delay_value=False))
    net, other = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
    with pytest.raises(
        RuntimeError, match=r"^Incongruent target and source parameter lists: net_params is not an attr"
    ):
        make(foreign(None, copied(params(net))))
    with pytest.raises(RuntimeError, match=r"^Incongruent .*net_params is {'bias': \[3\].*Make the target a copy"):
        make(foreign(net, copied(params(other))))
    with pytest.raises(RuntimeError, match=r"^the target parameter is part of a graph.* weight requires .* Detach"):
        make(foreign(other, params(nn.Linear(2, 3, bias=False))))
    with pytest.raises(
        RuntimeError, match=r"^The target and source data are identical for all params.* Make the targets"
    ):
        make(foreign(net, TensorDictParams(params(net).data, no_convert=True)))
