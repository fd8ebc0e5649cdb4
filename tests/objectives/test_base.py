from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.objectives.target_update.hard import HardUpdate
from tests.objectives.worlds import (
    OBS,
    A,
    N,
    as_transitions,
    assert_same,
    gradients,
    make_episodes,
    make_loss,
)


@pytest.mark.parametrize("layout", ["episode", "transition"])
def test_targets_get_no_gradient_and_online_networks_all_of_it(layout: str) -> None:
    loss = make_loss(layout=layout, double_q=True)
    batch = make_episodes() if layout == "episode" else as_transitions(make_episodes())
    batch["state"].requires_grad_()
    after = batch["next", "state"].requires_grad_() if layout == "transition" else None
    assert gradients(loss, batch).keys() == dict(loss.named_parameters()).keys()
    assert not any(name.startswith("target_") for name, _ in loss.named_parameters())
    assert sum(name.startswith("target_") for name, _ in loss.named_buffers()) == len(list(loss.parameters()))
    assert after is None or after.grad is None
    assert layout == "transition" or (batch["state"].grad[:, -1] == 0).all()


@pytest.mark.parametrize("recurrent", [False, True])
def test_parameters_are_the_users_own_each_once(recurrent: bool) -> None:
    loss = make_loss(recurrent=recurrent)
    theirs = [*loss.local_value_network.parameters(), *loss.mixer_network.parameters()]
    assert {id(parameter) for parameter in loss.parameters()} == {id(parameter) for parameter in theirs}
    assert len(list(loss.parameters())) == len(theirs)
    gradients(loss, make_episodes())
    assert {id(parameter) for parameter in loss.parameters()} == {id(parameter) for parameter in theirs}


def test_without_delay_the_targets_are_the_live_parameters() -> None:
    loss = make_loss(delay_value=False)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.data = parameter.data + 1  # rebound, as torch.nn.utils.vector_to_parameters does
    target, online = loss.target_local_value_network_params, loss.local_value_network_params
    assert all(torch.equal(value, online.get(key)) for key, value in target.items(True, True))
    assert not any(value.requires_grad for value in target.values(True, True))


def test_a_recurrent_targets_weights_are_the_targets() -> None:
    # nn.GRU keeps a flat list of its weights beside its parameters, which a swap of parameters must not miss.
    loss = make_loss(recurrent=True, diagnostics=True)
    twin = make_loss(recurrent=True, diagnostics=True)
    with torch.no_grad():
        for name in ("local_value_network", "mixer_network"):
            twin.target_params(name).update_(loss.target_params(name))
        for buffer in twin.target_params("local_value_network").values(True, True):
            buffer.add_(0.1)
    assert loss(make_episodes())["value"] == twin(make_episodes())["value"]
    assert loss(make_episodes())["target"] != twin(make_episodes())["target"]


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_a_copy_is_whole_and_its_own(mixer: str, copier: Any) -> None:
    loss = make_loss(mixer=mixer)
    twin = copier(loss)
    assert_same(gradients(twin, make_episodes()), gradients(loss, make_episodes()))
    ids = {id(parameter) for parameter in twin.parameters()}
    assert ids == {id(p) for p in (*twin.local_value_network.parameters(), *twin.mixer_network.parameters())}
    assert ids.isdisjoint(id(parameter) for parameter in loss.parameters())


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_a_state_dict_brings_everything_back(mixer: str) -> None:
    loss, other = make_loss(mixer=mixer), make_loss(mixer=mixer, perturbed=False)
    loss.make_value_estimator("TDLambda", gamma=0.8, lmbda=0.5)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(1.5)
    other.make_value_estimator("TDLambda")
    keys = list(other.state_dict())
    other.load_state_dict(loss.state_dict())
    assert_same(gradients(other, make_episodes()), gradients(loss, make_episodes()))
    assert list(other.state_dict()) == keys == list(loss.state_dict())


def test_a_cast_reaches_networks_and_targets_but_not_the_discount() -> None:
    net = nn.Sequential(nn.Linear(OBS, 8), nn.BatchNorm1d(N), nn.Linear(8, A))
    loss = QMixerLoss(net, VDNMixer(N), layout="episode").bfloat16()
    assert {tensor.dtype for tensor in net.parameters()} == {torch.bfloat16}
    saved = loss.local_value_network_params["module", "1", "running_mean"]
    assert saved.data_ptr() == net[1].running_mean.data_ptr()
    assert saved.dtype == torch.bfloat16
    assert loss.target_local_value_network_params["module", "0", "weight"].dtype == torch.bfloat16
    assert loss.value_estimator.gamma == torch.tensor(0.99)


def test_train_and_eval_reach_the_networks() -> None:
    loss = make_loss()
    assert not loss.eval().local_value_network.training
    assert loss.train().mixer_network.training


def test_the_batch_gains_td_error_and_changes_in_nothing_else() -> None:
    for layout, batch in (("episode", make_episodes()), ("transition", as_transitions(make_episodes()))):
        before = batch.clone()
        loss = make_loss(layout=layout)
        loss.set_keys(mask="mask", priority=("agents", "surprise"))
        loss(batch)
        assert batch["agents", "surprise"].shape == (*batch.shape, 1)
        assert (batch.exclude(("agents", "surprise")) == before).all()
        assert set(batch.keys(True, True)) - set(before.keys(True, True)) == {("agents", "surprise")}


def test_somebody_must_promise_to_update_the_targets() -> None:
    loss = make_loss()
    loss.has_target_update = False
    with pytest.warns(UserWarning, match=r"No target network updater has been associated"):
        loss(make_episodes())
    loss(make_episodes())  # says nothing, or this test would fail: warnings are errors
    for other in (make_loss(delay_value=False), make_loss()):
        other.has_target_update = False
        if other.delay_value:
            HardUpdate(other)
        other(make_episodes())


def test_keys_that_make_no_sense_are_refused_and_change_nothing() -> None:
    loss = make_loss()
    with pytest.raises(ValueError, match=r"rewad is not an accepted tensordict key. .* Did you mean 'reward'?"):
        loss.set_keys(mask="mask", rewad="r")
    with pytest.raises(ValueError, match=r"key name must be of type NestedKey .* got reward=3"):
        loss.set_keys(mask="mask", reward=3)  # type: ignore[arg-type]
    assert loss.tensor_keys == loss.default_keys()
