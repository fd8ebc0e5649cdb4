"""Networks of a loss and their targets."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, TensorDictModule, TensorDictParams, set_interaction_type
from tensordict.nn.probabilistic import interaction_type
from torch import nn

from qmix_lightning.mixers.vdn import VDNMixer
from qmix_lightning.objectives.qmixer import QMixerLoss
from qmix_lightning.objectives.target_update.soft import SoftUpdate
from tests.objectives.worlds import OBS, OBSERVATION, VALUE, A, N, as_transitions, make_episodes, make_loss


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


def test_parameters_that_are_put_in_the_place_of_the_networks_are_used_and_trained() -> None:
    loss, batch = make_loss(), make_episodes()
    before = loss(batch)["loss"].detach()
    new = TensorDictParams(loss.local_value_network_params.data.clone() + 0.1)
    loss.local_value_network_params = new
    value = loss(batch)["loss"]
    value.backward()
    assert value != before
    assert all(parameter.grad is not None for parameter in new.parameters())
    assert all(parameter.grad is None for parameter in loss.local_value_network.parameters())
    other = make_loss()
    tripled = TensorDict.from_module(other).data.apply(lambda tensor: 3 * tensor).requires_grad_()
    with tripled.to_module(other):
        value = other(batch)["loss"]
        value.backward()
    assert value not in (before, loss(batch)["loss"])
    assert tripled["local_value_network_params", "module", "0", "weight"].grad is not None
    assert other(batch)["loss"] == before


def test_a_network_that_gets_other_parameters_or_modules_is_refused() -> None:
    loss = make_loss()
    net = loss.local_value_network.module
    net[0].weight = nn.Parameter(net[0].weight.detach().clone())
    with pytest.raises(RuntimeError, match=r"parameter module.0.weight of local_value_network .* was exchanged"):
        loss(make_episodes())
    loss = make_loss()
    loss.local_value_network.module[1] = nn.ReLU()
    with pytest.raises(RuntimeError, match=r"local_value_network to be made of the modules it had"):
        loss(make_episodes())
    with pytest.raises(AttributeError, match=r"Expected mixer_network to stay as it was given"):
        loss.mixer_network = VDNMixer(N)


class Normaliser(nn.Module):
    """Replaces its buffer at every run, and remembers what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.scale, self.last = nn.Linear(OBS, A), 1.0, None
        self.register_buffer("mean", torch.zeros(OBS))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * observation.detach().flatten(0, -2).mean(0)
        self.last = self.scale * self.head(observation - self.mean)
        return self.last


def make_normalised(**options: Any) -> tuple[Normaliser, QMixerLoss]:
    torch.manual_seed(0)
    net = Normaliser()
    loss = QMixerLoss(net, VDNMixer(N), layout="episode", diagnostics=True, **options).double()
    loss.has_target_update = True
    return net, loss


@pytest.mark.parametrize("delay_value", [False, True])
def test_buffers_that_a_network_replaces_are_saved_and_reach_the_targets(delay_value: bool) -> None:
    net, loss = make_normalised(delay_value=delay_value)
    loss(make_episodes())
    assert loss.state_dict()["local_value_network_params.module.mean"] is net.mean or torch.equal(
        loss.state_dict()["local_value_network_params.module.mean"], net.mean
    )
    if delay_value:
        SoftUpdate(loss, tau=1.0).step()
    target = loss.target_network("local_value_network").module
    assert torch.equal(target.mean, net.mean)
    loss.to("cpu")  # what the network remembers of its last run is no obstacle
    pickle.loads(pickle.dumps(make_normalised()[1]))


def test_a_copy_by_pickle_shares_buffers_with_its_network() -> None:
    twin = pickle.loads(pickle.dumps(make_normalised()[1]))
    twin(make_episodes())
    saved = twin.state_dict()["local_value_network_params.module.mean"]
    assert torch.equal(saved, twin.local_value_network.module.mean)
    assert saved.abs().max() > 0


def test_numbers_that_the_user_changes_reach_the_targets() -> None:
    net, loss = make_normalised()
    loss.eval()
    batch = make_episodes()
    batch["next", "reward"].zero_()
    before = loss(batch)["target"]
    net.scale = 3.0
    torch.testing.assert_close(loss(batch)["target"], 3 * before)


def test_hooks_of_every_module_run() -> None:
    calls = []
    loss = make_loss(layout="transition")
    for module in (loss.local_value_network, loss.mixer_network):
        module.register_forward_hook(lambda *_: calls.append(1))
    loss(as_transitions(make_episodes()))
    assert len(calls) >= 2


def test_a_module_that_makes_something_special_of_its_children_resets_them_so() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(OBS, A)

        def reset_parameters(self) -> None:
            nn.init.constant_(self.layer.weight, 0.5)

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return self.layer(observation)

    loss = QMixerLoss(Half(), VDNMixer(N), layout="episode")
    loss.reset_parameters_recursive()
    assert (loss.local_value_network_params["module", "layer", "weight"] == 0.5).all()


def test_networks_inside_the_loss_do_not_explore() -> None:
    seen = []

    def run(observation: torch.Tensor) -> torch.Tensor:
        seen.append(interaction_type())
        return observation[..., :A]

    loss = QMixerLoss(TensorDictModule(run, [OBSERVATION], [VALUE]), VDNMixer(N), layout="episode")
    loss.has_target_update = True
    with set_interaction_type(InteractionType.RANDOM):
        loss(make_episodes())
    assert set(seen) == {InteractionType.DETERMINISTIC}
