import pytest
import torch

from qmix_lightning.exploration.random_action import random_action

DRAWS = 50_000


def assert_shares(drawn, expected):
    """Of many one-hot draws, within five standard deviations."""
    shares, expected = drawn.double().mean(0), torch.tensor(expected, dtype=torch.float64)
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / DRAWS).sqrt()).all()


def test_every_action_is_as_likely_as_any_other():
    torch.manual_seed(0)
    assert_shares(random_action([DRAWS, 4], [4], one_hot=True), [0.25] * 4)


def test_every_legal_action_is_as_likely_as_any_other():
    torch.manual_seed(0)
    mask = torch.tensor([True, False, True, True])
    assert_shares(random_action([DRAWS, 4], [4], mask, one_hot=True), [1 / 3, 0, 1 / 3, 1 / 3])


def test_components_are_drawn_each_on_its_own():
    torch.manual_seed(0)
    mask = torch.tensor([True, True, False, True, True])
    drawn = random_action([DRAWS, 5], [2, 3], mask, one_hot=True)
    assert_shares(drawn, [0.5, 0.5, 0, 0.5, 0.5])
    assert_shares(drawn[:, :1] * drawn[:, 3:4], [0.25])


@pytest.mark.parametrize("masked", [False, True])
def test_an_index_says_the_same_as_ones_and_zeros(masked):
    mask = (torch.rand(5, 3, 4) < 0.5) | (torch.arange(4) == 2) if masked else None
    torch.manual_seed(0)
    index = random_action([5, 3], [4], mask)
    torch.manual_seed(0)
    assert torch.equal(index, random_action([5, 3, 4], [4], mask, one_hot=True).argmax(-1))


@pytest.mark.parametrize("batch", [[], [0], [0, 3], [2, 1, 3]], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_there_are_as_many_as_wanted(batch, masked):
    mask = torch.ones(*batch, 4, dtype=torch.bool) if masked else None
    assert random_action(batch, [4], mask).shape == tuple(batch)


def test_nothing_to_draw_from_is_refused():
    mask = torch.tensor([[True, False], [False, False]])
    with pytest.raises(RuntimeError, match=r"invalid multinomial distribution: .* none at index \[1\]\. .*\"no-op\""):
        random_action([2], [2], mask)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shape does not match .* 4 entries, got \(5, 3\)\..*'categorical'"):
        random_action([5, 3], [4], one_hot=True)
    with pytest.raises(ValueError, match=r"Cannot expand mask to the desired shape: .* \(5, 3, 4\), got \(5, 4\)"):
        random_action([5, 3], [4], torch.ones(5, 4, dtype=torch.bool))
