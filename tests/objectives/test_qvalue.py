from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from qmix_lightning.objectives.qvalue import QValueModule, find_action_space, greedy_action, value_of_action


@pytest.mark.parametrize("action_space", ["categorical", "one_hot", "mult_one_hot"])
def test_the_value_of_the_greedy_action_is_the_largest(action_space: str) -> None:
    value = torch.randn(7, 3, 5)
    chosen = value_of_action(value, greedy_action(value, None, action_space, [2, 3]), action_space)
    largest = value.max(-1, keepdim=True).values
    if action_space == "mult_one_hot":
        largest = value[..., :2].max(-1, keepdim=True).values + value[..., 2:].max(-1, keepdim=True).values
    torch.testing.assert_close(chosen, largest)


def test_every_format_names_the_same_action() -> None:
    value, mask = torch.randn(9, 4), torch.rand(9, 4) < 0.5
    mask[:, 1] = True
    index = greedy_action(value, mask, "categorical")
    assert torch.equal(greedy_action(value, mask, "one_hot").argmax(-1), index)
    assert torch.equal(greedy_action(value, mask, "mult_one_hot", 4).argmax(-1), index)


def test_equals_do_not_make_several_actions_hot() -> None:
    action, _, chosen = QValueModule("one-hot")(torch.full((3,), 2.0))
    assert action.tolist() == [1, 0, 0]
    assert chosen.tolist() == [2]


def test_it_writes_at_its_keys_and_leaves_the_values_it_was_given() -> None:
    value = torch.randn(6, 3)
    mask = torch.tensor([False, True, True]).expand(6, 3)
    td = TensorDict({"q": value, "legal": mask}, [6])
    QValueModule("categorical", "q", "legal", ["a", "q", "v"])(td)
    assert torch.equal(td["a"], value[:, 1:].argmax(-1) + 1)
    assert torch.equal(td["v"], value[:, 1:].max(-1, keepdim=True).values)
    assert (td["q"][:, 0] == torch.finfo(torch.float32).min).all()
    assert (value[:, 0] > -100).all()


def test_gradients_flow_through_the_chosen_value() -> None:
    value = torch.tensor([[1.0, 3.0]], requires_grad=True)
    QValueModule("categorical")(value)[2].sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[0, 1]]


def test_names_are_normalised_and_unknown_ones_refused() -> None:
    assert find_action_space("multi-one-hot") == "mult_one_hot"
    for unknown in ("continuous", None, 3):
        with pytest.raises(
            ValueError, match=f"not specified/not compatible .*Got action_space={unknown}. Choose one of"
        ):
            find_action_space(unknown)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Neither action_space nor spec was defined"):
        QValueModule()
    with pytest.raises(ValueError, match=r"action_space must be one of \['categorical', .* got multi_categorical"):
        QValueModule("multi-categorical")
    with pytest.raises(RuntimeError, match=r"Expected the action-value key to be 'q' but got action_value instead"):
        QValueModule("categorical", "q", out_keys=["action", "action_value", "chosen"])
    with pytest.raises(RuntimeError, match=r"safe=True needs the spec"):
        QValueModule("categorical", safe=True)
    with pytest.raises(ValueError, match=r"var_nums must be provided"):
        QValueModule("mult-one-hot")(torch.zeros(4))
    with pytest.raises(KeyError, match=r"Action value key q not found in"):
        QValueModule("categorical", "q")(TensorDict({}, []))
    with pytest.raises(KeyError, match=r"Action mask key legal not found in"):
        QValueModule("categorical", "q", "legal")(TensorDict({"q": torch.zeros(3)}, []))
    with pytest.raises(ValueError, match=r"Expected one_hot actions of the shape \(4, 3\).*action_space='categorical'"):
        value_of_action(torch.zeros(4, 3), torch.zeros(4), "one_hot")
