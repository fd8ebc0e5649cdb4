from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.actors.qvalue_actor import QValueActor
from qmix_lightning.actors.safe_sequential import SafeSequential


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def observed(*batch: int) -> TensorDict:
    torch.manual_seed(1)
    return TensorDict(observation=torch.randn(*batch, 4), batch_size=batch)


def same(ours: TensorDict, theirs: TensorDict) -> bool:
    return bool((ours == theirs).all())


def test_it_is_the_network_followed_by_the_choice() -> None:
    by_hand = TensorDictSequential(
        TensorDictModule(net(), ["observation"], ["action_value"]), QValueModule("categorical")
    )
    actor = QValueActor(net(), action_space="categorical")
    assert actor.in_keys == by_hand.in_keys
    assert actor.out_keys == by_hand.out_keys
    assert same(actor(observed(5, 2)), by_hand(observed(5, 2)))


def test_a_tensordict_module_keeps_its_own_keys() -> None:
    module = TensorDictModule(net(), ["obs"], [("agents", "q")])
    actor = QValueActor(
        module,
        in_keys=["ignored"],
        action_space="one-hot",
        action_value_key=("agents", "q"),
        action_key=("agents", "action"),
        chosen_action_value_key=("agents", "v"),
        action_mask_key="legal",
    )
    assert actor[0] is module
    assert actor.in_keys == ["obs", "legal"]
    assert actor.out_keys == [("agents", "action"), ("agents", "q"), ("agents", "v")]
    assert (actor.action_space, actor.action_value_key) == ("one_hot", ("agents", "q"))
    legal = torch.tensor([False, True, False]).expand(5, 3)
    td = actor(TensorDict({"obs": torch.randn(5, 4), "legal": legal}, [5]))
    assert torch.equal(td["agents", "action"], legal.long())


def test_a_network_is_fed_what_it_is_told_to_read() -> None:
    actor = QValueActor(lambda seen, other: seen + other, in_keys=["seen", "other"], action_space="categorical")
    td = actor(TensorDict(seen=torch.tensor([1.0, 0.0]), other=torch.tensor([0.0, 9.0])))
    assert td["action"] == 1


def test_tensors_come_back_in_the_order_of_the_keys() -> None:
    actor = QValueActor(net(), action_space="categorical")
    td = actor(observed(5))
    for outputs in (actor(observed(5)["observation"]), actor(observation=observed(5)["observation"])):
        assert all(torch.equal(output, td[key]) for output, key in zip(outputs, actor.out_keys, strict=True))


def test_it_learns_by_the_networks_own_parameters() -> None:
    network = net()
    actor = QValueActor(network, action_space="categorical")
    assert [id(parameter) for parameter in actor.parameters()] == [id(parameter) for parameter in network.parameters()]
    assert list(actor.state_dict()) == ["module.0.module.weight", "module.0.module.bias"]
    actor(observed(5))["chosen_action_value"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_copies_and_compiled_actors_do_the_same() -> None:
    actor = QValueActor(net(), action_space="one-hot")
    expected = actor(observed(5))
    others = (
        copy.deepcopy(actor),
        pickle.loads(pickle.dumps(actor)),
        torch.compile(actor, fullgraph=True, backend="eager"),
    )
    assert all(same(other(observed(5)), expected) for other in others)


def test_it_values_in_the_dtype_it_is_moved_to_and_acts_in_integers() -> None:
    td = QValueActor(net(), action_space="categorical").to(torch.float64)(observed(5).double())
    assert td["action_value"].dtype == td["chosen_action_value"].dtype == torch.float64
    assert td["action"].dtype == torch.int64


def test_a_part_of_it_is_a_sequence() -> None:
    actor = QValueActor(net(), action_space="categorical")
    assert isinstance(actor[1], QValueModule)
    for part in (actor[:1], actor[:1].select_subsequence(out_keys=["action_value"])):
        assert type(part) is SafeSequential
        assert part.out_keys == ["action_value"]
    assert len(actor.select_subsequence(out_keys=["action"])) == 2


def test_without_a_spec_there_is_none_to_ask() -> None:
    actor = QValueActor(net(), action_space="categorical")
    assert not hasattr(actor, "spec")
    with pytest.raises(AttributeError, match=r"'QValueActor' object has no attribute 'spec'.*ask action_space"):
        _ = actor.spec


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Neither action_space nor spec was defined"):
        QValueActor(net())
    with pytest.raises(ValueError, match=r"Got action_space=nonsense\. Choose one of"):
        QValueActor(net(), action_space="nonsense")
    with pytest.raises(TypeError, match=r"spec must be a TensorSpec subclass, got 3"):
        QValueActor(net(), spec=3)
    with pytest.raises(RuntimeError, match=r"`TensorDictModule\(spec=None, safe=True\)` is not a valid configuration"):
        QValueActor(net(), action_space="one-hot", safe=True)
    with pytest.raises(KeyError, match=r"The key 'action_value' is not part of the module out-keys\. .*\['q'\]"):
        QValueActor(TensorDictModule(net(), ["observation"], ["q"]), action_space="one-hot")
