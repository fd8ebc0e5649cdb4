"""What TorchRL's QMIX accepts, refuses and says wrongly: each test fails on its behaviour and passes on ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn

from tests.parity.libraries import (
    ACTION,
    CHOSEN,
    NOTHING_RAISED,
    OBS,
    OBSERVATION,
    SILENCE,
    VALUE,
    A,
    Library,
    N,
    S,
    World,
    both,
    td_error,
    transitions,
)

pytestmark = SILENCE


@both(RuntimeError)
def test_d05_a_categorical_action_may_have_a_last_dimension_of_one(lib: Library) -> None:
    world, td = World(lib), transitions(4, 5)
    expected = td_error(world.loss, td)
    td[ACTION] = td[ACTION].unsqueeze(-1)
    assert torch.equal(td_error(world.loss, td), expected)


@both(AssertionError)
def test_d09_of_equally_good_actions_one_is_taken(lib: Library) -> None:
    action, _, chosen = lib.QValueModule("one-hot")(torch.ones(2, A))
    assert action.sum(-1).tolist() == [1, 1]
    assert chosen.flatten().tolist() == [1.0, 1.0]


@both(NOTHING_RAISED)
def test_d09_no_action_is_taken_where_none_is_legal(lib: Library) -> None:
    choice = lib.QValueModule("one-hot", action_mask_key="mask")
    with pytest.raises(ValueError, match=r"legal action .* none at index \[1\]"):
        choice(torch.randn(2, A), torch.tensor([[True] * A, [False] * A]))


@both(RuntimeError)
@pytest.mark.parametrize("view", [lambda td: td[:, :-1], lambda td: td.permute(1, 0)], ids=["slice", "permute"])
def test_d10_views_are_as_good_as_copies(lib: Library, view: Any) -> None:
    world, td = World(lib), view(transitions(4, 5))
    expected = world.error(td.apply(Tensor.contiguous)).mean()
    torch.testing.assert_close(world.loss(td)["loss"].detach(), expected)


@both(NOTHING_RAISED)
@pytest.mark.parametrize("shape", [(5, 4), (20,)], ids=["time first", "flat"])
def test_d11_a_state_that_belongs_to_other_values_is_refused(lib: Library, shape: tuple[int, ...]) -> None:
    mixer = lib.QMixer((S,), 4, N, "cpu")
    with pytest.raises(ValueError, match=r"state with the leading shape .*4, 5.* but got state shape"):
        mixer(torch.randn(4, 5, N, 1), torch.randn(*shape, S))


@both(TypeError, ValueError)
@pytest.mark.parametrize("state_shape", [S, [S], [2, 3]], ids=str)
def test_d12_a_state_shape_may_be_a_number_or_a_list(lib: Library, state_shape: int | list[int]) -> None:
    torch.manual_seed(0)
    mixer = lib.QMixer(state_shape, 4, N, "cpu")
    torch.manual_seed(0)
    same = lib.QMixer((S,), 4, N, "cpu")
    values, state = torch.randn(7, N, 1), torch.randn(7, S)
    shaped = state.unflatten(-1, (2, 3)) if state_shape == [2, 3] else state
    assert torch.equal(mixer(values, shaped), same(values, state))


@both(AttributeError)
def test_d17_a_missing_action_space_is_named_with_the_choices(lib: Library) -> None:
    world = World(lib)
    with pytest.raises(ValueError, match=r"action_space .*None.* Choose one of .*'categorical'"):
        lib.QMixerLoss(TensorDictModule(world.net, [OBSERVATION], [VALUE]), world.mixing)


@both(AttributeError)
@pytest.mark.parametrize("key", [ACTION, ("next", "reward")], ids=str)
def test_d17_a_missing_entry_is_named_with_those_found_and_the_cure(lib: Library, key: tuple[str, str]) -> None:
    world, td = World(lib), transitions(20)
    del td[key]
    with pytest.raises(KeyError, match=rf"expected .*{key[-1]}.* found .*observation.*set_keys"):
        world.loss(td)


@both(AttributeError, RuntimeError)
def test_d17_a_missing_argument_is_named(lib: Library) -> None:
    world, td = World(lib), transitions(20)
    entries = {"_".join(key): td[key] for key in (ACTION, OBSERVATION, ("next", *OBSERVATION), ("next", "done"))}
    entries |= {"state": td["state"], "next_state": td["next", "state"], "next_terminated": td["next", "terminated"]}
    with pytest.raises((KeyError, TypeError), match=r"next.*reward"):
        world.loss(**entries)


@both(AssertionError)
def test_d17_a_mixer_without_its_state_says_how_many_inputs_it_got(lib: Library) -> None:
    with pytest.raises(ValueError, match=r"expected chosen_action_value and state, but got 1"):
        lib.QMixer((S,), 4, N, "cpu")(torch.randn(7, N, 1))


@both(AssertionError)
def test_d17_a_reward_for_each_agent_is_refused_with_the_cure(lib: Library) -> None:
    world, td = World(lib), transitions(20)
    td["next", "reward"] = torch.randn(20, N, 1, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"\(20, 1\), got reward \(20, 3, 1\).* summed or averaged over the agents"):
        world.loss(td)


def square(action: Tensor) -> Any:
    """Transitions with as many battles as agents as actions, so that indices broadcast like one-hot actions."""
    td = transitions(N)
    td[ACTION] = action
    return td


@both(NOTHING_RAISED)
def test_d18_indices_are_no_one_hot_actions_even_where_they_broadcast(lib: Library) -> None:
    world = World(lib, net=nn.Linear(OBS, N), head="one-hot", action_space="one-hot")
    # Each row of these indices even looks like a one-hot action.
    with pytest.raises(ValueError, match="action_space"):
        world.loss(square(torch.eye(N, dtype=torch.int64)))


@both(NOTHING_RAISED)
@pytest.mark.parametrize("fill", [0, 1])
def test_d18_one_hot_actions_have_one_one(lib: Library, fill: int) -> None:
    world = World(lib, net=nn.Linear(OBS, N), head="one-hot", action_space="one-hot")
    with pytest.raises(ValueError, match=r"one.hot"):
        world.loss(square(torch.full((N, N, N), fill)))


@both(NOTHING_RAISED)
@pytest.mark.parametrize(("head", "action_space"), [("one-hot", "categorical"), ("categorical", "one-hot")])
def test_d18_loss_and_local_network_share_one_action_space(lib: Library, head: str, action_space: str) -> None:
    with pytest.raises(ValueError, match=r"action_space='\w+', but the QValueModule .* has '\w+'"):
        World(lib, head=head, action_space=action_space)


@both(NOTHING_RAISED)
@pytest.mark.parametrize("name", ["huber", None])
def test_d18_an_unknown_distance_is_refused_by_the_constructor(lib: Library, name: str | None) -> None:
    with pytest.raises(ValueError, match=rf"Unknown loss_function {name!r}.*l2, l1, smooth_l1"):
        World(lib, loss_function=name)


@both(NOTHING_RAISED)
@pytest.mark.parametrize("gamma", [1.2, -0.1])
def test_d18_a_discount_lies_between_zero_and_one(lib: Library, gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"gamma must lie in \[0, 1\], got {gamma}"):
        World(lib).loss.make_value_estimator("td0", gamma=gamma)


@both(AssertionError)
@pytest.mark.parametrize("bad", [{"reward": 7}, {"rewards": "r"}], ids=["no key", "no name"])
def test_d18_keys_are_set_all_or_none(lib: Library, bad: dict[str, Any]) -> None:
    world, td = World(lib), transitions(20)
    before, expected = dict(vars(world.loss.tensor_keys)), td_error(world.loss, td)
    with pytest.raises(ValueError, match=r"is not an accepted|must be of type NestedKey"):
        world.loss.set_keys(action="somewhere", **bad)
    assert vars(world.loss.tensor_keys) == before
    assert torch.equal(td_error(world.loss, td), expected)


@both(TypeError)
@pytest.mark.parametrize("kind", ["qmix", "vdn", "own"])
def test_d19_a_mixer_needs_no_wrapping(lib: Library, kind: str) -> None:
    class Mean(lib.Mixer):
        def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
            return chosen_action_value.mean(-2)

    world, td = World(lib, mixer="vdn" if kind == "vdn" else "qmix"), transitions(4, 5)
    mixer = Mean(N, False, (), "cpu") if kind == "own" else world.mixer
    keys = [CHOSEN, "state"] if kind == "qmix" else [CHOSEN]
    wrapped = TensorDictModule(mixer, keys, ["chosen_action_value"])
    expected = lib.QMixerLoss(world.local, wrapped, action_space="categorical")(td)["loss"]
    assert torch.equal(lib.QMixerLoss(world.local, mixer, action_space="categorical")(td)["loss"], expected)
