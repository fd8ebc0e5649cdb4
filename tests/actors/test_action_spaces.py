from __future__ import annotations

import pytest
import torch

from qmix_lightning.actors.action_spaces import (
    ACTION_SPACES,
    component_sizes,
    expand_mask,
    find_action_space,
    greedy_action,
    value_of_action,
)


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


@pytest.mark.parametrize("action_space", ["one_hot", "mult_one_hot"])
def test_the_first_of_equals_is_the_only_hot_one(action_space: str) -> None:
    assert greedy_action(torch.zeros(2, 4), None, action_space, 4).tolist() == [[1, 0, 0, 0]] * 2


def test_a_categorical_action_may_have_a_last_dimension_of_one() -> None:
    value, action = torch.randn(5, 4), torch.randint(4, (5,))
    assert torch.equal(
        value_of_action(value, action, "categorical"), value_of_action(value, action[:, None], "categorical")
    )


def test_components_share_out_all_actions() -> None:
    assert component_sizes(6, "mult_one_hot", 2) == [2, 2, 2]
    assert component_sizes(6, "mult_one_hot", (4, 2)) == [4, 2]
    assert component_sizes(6, "one_hot", [4, 2]) == component_sizes(6, "categorical") == [6]


def test_a_mask_holds_for_everyone_it_is_repeated_for() -> None:
    mask = torch.tensor([True, False, True])
    for narrow in (mask, mask.expand(1, 1, 3), mask.expand(4, 1, 3), mask.expand(4, 2, 3)):
        assert torch.equal(expand_mask(narrow, [4, 2, 3]), mask.expand(4, 2, 3))


@pytest.mark.parametrize("shape", [[2, 3], [4, 3], [1], [4, 2, 2], [1, 4, 2, 3], []], ids=str)
def test_a_mask_that_could_be_anyones_is_refused(shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"Cannot expand mask to the desired shape: expected .* \(4, 2, 3\), got \("):
        expand_mask(torch.ones(shape, dtype=torch.bool), [4, 2, 3])


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_names_with_hyphens_and_underscores_mean_the_same(name: str) -> None:
    assert find_action_space(name.replace("-", "_")) == find_action_space(name)


@pytest.mark.parametrize("unknown", ["continuous", None, 3])
def test_an_unknown_action_space_is_refused_with_the_known_ones(unknown: object) -> None:
    with pytest.raises(
        ValueError, match=rf"specified/not compatible .*Got action_space={unknown}\. Choose one of .*'o"
    ):
        find_action_space(unknown)


def test_there_is_no_greedy_action_in_other_spaces() -> None:
    with pytest.raises(ValueError, match=r"action_space must be one of \['categorical', .* got binary"):
        greedy_action(torch.zeros(4), None, "binary")


@pytest.mark.parametrize("var_nums", [2, [2, 2]], ids=str)
def test_components_that_do_not_add_up_are_refused(var_nums: int | list[int]) -> None:
    with pytest.raises(ValueError, match=r"var_nums that add up to the 5 action values, got .*2"):
        greedy_action(torch.zeros(5), None, "mult_one_hot", var_nums)
    with pytest.raises(ValueError, match=r"var_nums must be provided .*e\.g\. var_nums=\[2, 3\]"):
        greedy_action(torch.zeros(5), None, "mult_one_hot")


def test_an_action_in_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected one_hot actions of the shape \(4, 3\).*action_space='categorical'"):
        value_of_action(torch.zeros(4, 3), torch.zeros(4), "one_hot")
    with pytest.raises(ValueError, match=r"shape \(4,\), got \(4, 3\)\. One-hot actions need action_space='one_hot'"):
        value_of_action(torch.zeros(4, 3), torch.zeros(4, 3), "categorical")
