"""Networks of a loss and their targets."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import nn

from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from tests.objectives.worlds import OBS, OBSERVATION, VALUE, A, N, make_episodes, make_loss


def tensors(module: nn.Module) -> set[int]:
    return {id(tensor) for tensor in (*module.parameters(), *module.buffers())}


def leaves(params: Any) -> set[int]:
    return {id(tensor) for tensor in (*params._parameters.values(), *params._buffers.values())}


NAMES = ["local_value_network", "mixer_network"]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_target_network_runs_with_the_targets_very_tensors(name: str, recurrent: bool) -> None:
    loss = make_loss(recurrent=recurrent)
    assert tensors(loss.target_network(name)) == leaves(loss.target_params(name))
    assert tensors(loss.target_network(name)).isdisjoint(tensors(getattr(loss, name)))
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), loss.float(), loss.double()):
        assert tensors(other.target_network(name)) == leaves(other.target_params(name))


@pytest.mark.parametrize("name", NAMES)
def test_without_delay_a_target_network_runs_with_the_live_parameters(name: str) -> None:
    loss = make_loss(delay_value=False)
    assert tensors(loss.target_network(name)) == tensors(getattr(loss, name))


def test_a_recurrent_target_network_lists_the_targets_weights() -> None:
    # nn.GRU runs with a list of weights of its own.
    gru = make_loss(recurrent=True).target_network("local_value_network").module.gru
    assert {id(weight) for weight in gru._flat_weights} == tensors(gru)


def test_targets_that_are_exchanged_are_noticed() -> None:
    loss, batch = make_loss(diagnostics=True), make_episodes()
    before = loss(batch)["target"]
    loss.target_mixer_network_params = copy.deepcopy(loss.target_mixer_network_params).apply(lambda x: x + 1)
    changed = loss(batch)["target"]
    assert changed != before
    weight = loss.target_local_value_network_params["module", "0", "weight"]
    loss.target_local_value_network_params["module", "0", "weight"] = weight + 1
    assert loss(batch)["target"] != changed


def test_targets_are_always_in_evaluation_mode() -> None:
    net = nn.Sequential(nn.Linear(OBS, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, A))
    flat = TensorDictModule(lambda o: net(o.flatten(0, -2)).unflatten(0, o.shape[:-1]), [OBSERVATION], [VALUE])
    flat.net = net
    loss = QMixerLoss(flat, VDNMixer(N), layout="episode").train()
    loss.has_target_update = True
    assert loss.local_value_network.training
    assert not any(module.training for module in loss.target_network("local_value_network").modules())


def test_a_stateful_network_shares_the_parameters_and_another_ones_values_can_be_taken_over() -> None:
    loss, other = make_loss(), make_loss()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    twin = loss.get_stateful_net("local_value_network")
    assert twin is not loss.local_value_network
    assert tensors(twin) == tensors(loss.local_value_network)
    assert loss.get_stateful_net("local_value_network", copy=False) is loss.local_value_network
    loss.from_stateful_net("local_value_network", other.local_value_network)
    assert (loss.local_value_network_params.data == other.local_value_network_params.data).all()
    with pytest.raises(RuntimeError, match="The keys of params and provided module differ"):
        loss.from_stateful_net("local_value_network", other.mixer_network)


def test_parameters_drawn_anew_are_the_targets_too() -> None:
    loss = make_loss()
    before = loss.local_value_network_params.data.clone()
    loss.reset_parameters_recursive()
    assert (loss.local_value_network_params.data != before).any()
    for name in NAMES:
        assert (getattr(loss, f"{name}_params").data == loss.target_params(name)).all()
    with pytest.raises(NotImplementedError, match="Expected no parameters to reset but the networks' own"):
        loss.reset_parameters_recursive(before)


def test_a_state_dict_of_other_sizes_changes_nothing() -> None:
    loss, batch = make_loss(), make_episodes()
    before, state = loss(batch)["loss"], make_loss().state_dict()
    name = "target_mixer_network_params.module.hyper_b_1.bias"
    state[name] = torch.zeros(1)  # could be broadcast
    with pytest.raises(RuntimeError, match=rf"size mismatch for {name}: expected \[4\], got \[1\]"):
        loss.load_state_dict(state)
    with pytest.raises(RuntimeError, match=rf"size mismatch for 0.{name}"):
        nn.ModuleList([loss]).load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert loss(batch)["loss"] == before


def test_several_networks_of_a_name_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="expected expand_dim and compare_against to be None, got 2"):
        make_loss().convert_to_functional(nn.Linear(1, 1), "critic", expand_dim=2)
