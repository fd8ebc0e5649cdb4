from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.actors.qvalue import QValueModule

MASK = torch.tensor([[True, False, True], [False, True, True]])
VALUE = torch.tensor([[1.0, 9.0, 3.0], [9.0, 2.0, 1.0]])


def test_it_writes_the_greedy_action_and_its_value_after_the_values_it_was_given() -> None:
    module = QValueModule("categorical")
    assert module.in_keys == ["action_value"]
    assert module.out_keys == ["action", "action_value", "chosen_action_value"]
    td = module(TensorDict(action_value=VALUE, batch_size=[2]))
    assert td["action"].tolist() == [1, 0]
    assert td["action_value"] is VALUE
    assert td["chosen_action_value"].tolist() == [[9], [9]]


def test_it_reads_and_writes_at_its_keys_and_leaves_the_values_it_was_given() -> None:
    module = QValueModule("categorical", ("agents", "q"), "legal", [("agents", "a"), ("agents", "q"), "v"])
    assert module.in_keys == [("agents", "q"), "legal"]
    assert module.action_value_key == ("agents", "q")
    value = VALUE.clone()
    td = module(TensorDict({"agents": {"q": value}, "legal": MASK}, [2]))
    assert td["agents", "a"].tolist() == [2, 1]
    assert td["v"].tolist() == [[3], [2]]
    assert torch.equal(td["agents", "q"], torch.where(MASK, VALUE, torch.finfo(torch.float32).min))
    assert torch.equal(value, VALUE)


def test_the_chosen_value_may_be_left_out() -> None:
    outputs = QValueModule("one-hot", out_keys=["action", "action_value"])(torch.tensor([1.0, 2.0]))
    assert [output.tolist() for output in outputs] == [[0, 1], [1, 2]]


def test_tensors_are_taken_by_position_and_by_name() -> None:
    module = QValueModule("one-hot", action_mask_key="legal")
    for outputs in (module(VALUE, MASK), module(action_value=VALUE, legal=MASK)):
        assert [output.shape for output in outputs] == [(2, 3), (2, 3), (2, 1)]


def test_equals_do_not_make_several_actions_hot() -> None:
    action, _, chosen = QValueModule("one-hot")(torch.full((3,), 2.0))
    assert action.tolist() == [1, 0, 0]
    assert chosen.tolist() == [2]


@pytest.mark.parametrize("action_space", ["categorical", "one-hot"])
def test_what_illegal_actions_are_worth_does_not_matter(action_space: str) -> None:
    _, _, chosen = QValueModule(action_space, action_mask_key="m")(torch.where(MASK, VALUE, torch.nan), MASK)
    assert chosen.tolist() == [[3], [2]]


def test_one_mask_serves_all_battles() -> None:
    action = QValueModule("categorical", action_mask_key="m")(VALUE, torch.tensor([False, True, True]))[0]
    assert action.tolist() == [1, 1]


@pytest.mark.parametrize("action_space", ["categorical", "one-hot", "mult-one-hot"])
def test_gradients_flow_through_the_chosen_value(action_space: str) -> None:
    value = torch.tensor([[1.0, 3.0]], requires_grad=True)
    QValueModule(action_space, var_nums=2)(value)[2].sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[0, 1]]


def same(ours: Any, theirs: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_copies_and_compiled_modules_do_the_same() -> None:
    module = QValueModule("one-hot", action_mask_key="m")
    expected = module(VALUE, MASK)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.to(torch.float64)):
        assert same(other(VALUE, MASK), expected)

    @torch.compile(fullgraph=True, backend="eager")
    def compiled(value: Tensor, mask: Tensor) -> Any:
        return module(TensorDict({"action_value": value, "m": mask}, [2])).select(*module.out_keys)

    assert same(compiled(VALUE, MASK).values(), expected)


def test_without_a_spec_there_is_none_to_ask() -> None:
    module = QValueModule("categorical")
    assert not hasattr(module, "spec")
    with pytest.raises(AttributeError, match=r"'QValueModule' object has no attribute 'spec'.*ask action_space"):
        _ = module.spec
    with pytest.raises(RuntimeError, match=r"Trying to set an object of type .*int.* but expected a Composite.*Wrap"):
        module.spec = 3
    with pytest.raises(RuntimeError, match=r"Cannot draw a random 'action': its spec is unknown\. Pass the TorchRL"):
        module.random(TensorDict(batch_size=[2]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, r"Neither action_space nor spec was defined\. .* Choose action_space='categorical'"),
        ({"action_space": "nonsense"}, ValueError, r"not specified/not compatible .*nonsense\. Choose one of"),
        ({"action_space": "binary"}, ValueError, r"action_space must be one of \['categorical', .* got binary"),
        ({"action_space": "multi-discrete"}, ValueError, r"action_space must be one of .* got multi_categorical"),
        ({"spec": "one-hot"}, TypeError, r"spec must be a TensorSpec subclass, got 'one-hot'\. Names .* are action sp"),
        ({"action_space": "one-hot", "safe": True}, RuntimeError, r"spec=None, safe=True.*not a valid .* leave safe o"),
        ({"action_space": "one-hot", "strict_shape": "yes"}, ValueError, r"True, False, None or 'auto', got 'yes'"),
        (
            {"action_space": "one-hot", "action_value_key": "q", "out_keys": ["action", "action_value", "chosen"]},
            RuntimeError,
            r"Expected the action-value key to be 'q' but got action_value instead\..* the second of out_keys",
        ),
        ({"action_space": "one-hot", "out_keys": ["action"]}, ValueError, r"two or three out_keys: .*got \['action'\]"),
    ],
    ids=lambda case: str(case) if isinstance(case, dict) else "",
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        QValueModule(**arguments)


def test_missing_entries_are_refused_by_their_keys() -> None:
    module = QValueModule("categorical", "q", "legal", ["a", "q", "v"])
    with pytest.raises(KeyError, match=r"Action value key q not found in TensorDict"):
        module(TensorDict({}, []))
    with pytest.raises(KeyError, match=r"Action mask key legal not found in TensorDict"):
        module(TensorDict({"q": torch.zeros(3)}, []))


def test_masks_that_are_none_are_refused() -> None:
    module = QValueModule("categorical", action_mask_key="m")
    with pytest.raises(ValueError, match=r"mask must be bool .* got torch\.float32 .*Cast it with \.bool\(\)"):
        module(VALUE, MASK.float())
    with pytest.raises(ValueError, match=r"Cannot expand mask to the desired shape: .* \(2, 3\), got \(2, 2\)\. Give"):
        module(VALUE, MASK[:, :2])
    with pytest.raises(ValueError, match=r"legal action in every row .* none at index \[1\]\. .*\"no-op\""):
        module(VALUE, MASK & torch.tensor([[True], [False]]))


def test_a_multi_one_hot_action_needs_the_sizes_of_its_components() -> None:
    with pytest.raises(ValueError, match=r"var_nums must be provided to the constructor for multi one-hot"):
        QValueModule("mult-one-hot")(torch.zeros(4))
