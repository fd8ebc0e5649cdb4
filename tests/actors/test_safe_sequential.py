from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn

from qmix_lightning.actors.safe_sequential import SafeSequential


def modules() -> list[TensorDictModule]:
    torch.manual_seed(0)
    return [TensorDictModule(nn.Linear(4, 3), ["x"], ["y"]), TensorDictModule(nn.Tanh(), ["y"], ["z"])]


def given() -> TensorDict:
    return TensorDict(x=torch.linspace(-1, 1, 20).view(5, 4), batch_size=[5])


def test_it_is_the_modules_in_turn() -> None:
    ours, by_hand = SafeSequential(*modules()), TensorDictSequential(*modules())
    assert isinstance(ours, TensorDictSequential)
    assert (ours.in_keys, ours.out_keys, list(ours.state_dict())) == (
        by_hand.in_keys, by_hand.out_keys, list(by_hand.state_dict())
    )  # fmt: skip
    assert (ours(given()) == by_hand(given())).all()
    assert torch.equal(ours(given()["x"])[1], by_hand(given())["z"])


def names(modules: list[TensorDictModule]) -> dict[str, TensorDictModule]:
    return dict(zip(["first", "second"], modules, strict=True))


@pytest.mark.parametrize("kind", [list, names, lambda modules: OrderedDict(names(modules))])
def test_modules_may_come_in_a_list_or_with_names(kind: Any) -> None:
    sequence = SafeSequential(kind(modules()))
    assert (sequence(given()) == SafeSequential(*modules())(given())).all()
    assert len(sequence) == 2


def test_callables_are_modules_too() -> None:
    td = SafeSequential(*modules(), lambda td: td.set("w", td["z"] + 1))(given())
    assert torch.equal(td["w"], td["z"] + 1)


@pytest.mark.parametrize(
    ("inplace", "same", "keys"), [(True, True, "xyz"), (False, False, "yz"), ("empty", False, "yz")]
)
def test_it_writes_where_it_is_told_to(inplace: Any, same: bool, keys: str) -> None:
    td = given()
    out = SafeSequential(*modules(), inplace=inplace)(td)
    assert (out is td) == same
    assert sorted(out.keys()) == list(keys)


def test_a_partial_tolerant_sequence_skips_what_cannot_run() -> None:
    td = SafeSequential(*modules(), partial_tolerant=True)(TensorDict(y=torch.zeros(5, 3), batch_size=[5]))
    assert "z" in td
    with pytest.raises(KeyError, match="x"):
        SafeSequential(*modules())(TensorDict(y=torch.zeros(5, 3), batch_size=[5]))


def test_parts_of_it_are_sequences() -> None:
    sequence = SafeSequential(*modules())
    assert type(sequence[1:]) is SafeSequential
    assert sequence[1:].in_keys == ["y"]
    assert sequence.select_subsequence(out_keys=["y"]).out_keys == ["y"]


def test_copies_and_compiled_sequences_do_the_same() -> None:
    sequence = SafeSequential(*modules())
    others = (
        copy.deepcopy(sequence),
        pickle.loads(pickle.dumps(sequence)),
        torch.compile(sequence, fullgraph=True, backend="eager"),
    )
    assert all((other(given()) == sequence(given())).all() for other in others)


def test_what_a_network_calls_its_spec_is_not_taken_for_one() -> None:
    network = nn.Linear(4, 3)
    network.spec = "a task"  # a TensorDictModule hands it on
    assert not hasattr(SafeSequential(TensorDictModule(network, ["x"], ["y"])), "spec")


def test_without_specs_there_is_none_to_ask() -> None:
    with pytest.raises(AttributeError, match=r"'SafeSequential' object has no attribute 'spec': none was given\. Pass"):
        _ = SafeSequential(*modules()).spec
    with pytest.raises(RuntimeError, match=r"Cannot draw a random 'y': its spec is unknown"):
        SafeSequential(*modules()).random(given())
