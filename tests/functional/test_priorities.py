import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from qmix_lightning.functional.priorities import episode_priority, importance_weights

ERROR = torch.tensor([[1.0, -4.0, 1.0, 2.0], [0.5, 0.0, 0.0, 0.0]])[..., None]
PLAYED = torch.tensor([[True, True, True, True], [True, True, False, False]])[..., None]


def test_eta_1_is_the_largest_error_and_eta_0_the_mean_over_played_steps():
    assert episode_priority(ERROR, PLAYED, eta=1.0).tolist() == [4.0, 0.5]
    assert episode_priority(ERROR, PLAYED, eta=0.0).tolist() == [2.0, 0.25]


def test_the_errors_of_an_episode_that_are_all_alike_are_its_priority_whatever_eta():
    error = torch.full((1, 4, 1), -3.0)
    for eta in (0.0, 0.3, 0.9, 1.0):
        torch.testing.assert_close(episode_priority(error, PLAYED[:1], eta=eta), torch.tensor([3.0]))


def test_padding_counts_for_nothing_whatever_it_holds():
    for nonsense in (7.0, torch.inf, torch.nan):
        padded = torch.where(PLAYED, ERROR, nonsense)
        assert torch.equal(episode_priority(padded, PLAYED), episode_priority(ERROR, PLAYED))
    short = episode_priority(ERROR[1:, :2], PLAYED[1:, :2])
    assert torch.equal(episode_priority(ERROR, PLAYED)[1:], short)


def test_an_episode_that_was_never_played_has_no_priority():
    assert episode_priority(ERROR, torch.zeros_like(PLAYED)).tolist() == [0.0, 0.0]


@given(some.lists(some.floats(-100, 100), min_size=1, max_size=9), some.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_it_is_the_mixture_that_its_formula_says(errors, eta):
    error = torch.tensor(errors, dtype=torch.float64)[None, :, None]
    sizes = [abs(each) for each in errors]
    expected = eta * max(sizes) + (1 - eta) * sum(sizes) / len(sizes)
    assert float(episode_priority(error, torch.ones_like(error, dtype=torch.bool), eta=eta)) == pytest.approx(expected)


def test_equal_chances_make_weights_of_1_exactly():
    for beta in (0.0, 0.4, 1.0):
        assert torch.equal(importance_weights(torch.full((5,), 0.3), beta), torch.ones(5))


def test_without_beta_all_count_alike():
    assert torch.equal(importance_weights(torch.tensor([0.9, 0.1, 1e-9]), 0.0), torch.ones(3))


@pytest.mark.parametrize("size", [10, 5_000])
@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_they_are_those_of_schaul_et_al_whatever_the_size_of_the_replay(beta, size):
    chance = torch.tensor([0.5, 0.2, 0.03], dtype=torch.float64)
    weights = (size * chance) ** -beta
    torch.testing.assert_close(importance_weights(chance, beta), weights / weights.max())
