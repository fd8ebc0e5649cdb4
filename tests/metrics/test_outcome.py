import math

import pytest
import torch

from qmix_lightning.metrics.outcome import (
    Deaths,
    EpisodeLength,
    EpisodeReturn,
    WinRate,
    final_value,
    wilson_interval,
)

LENGTHS = torch.tensor([3, 1, 4, 4, 2])
MASK = (torch.arange(5) < LENGTHS[:, None])[..., None]
REWARD = torch.randn(5, 5, 1, generator=torch.Generator().manual_seed(0))


def one_number_an_episode():
    returns = [REWARD[b, :length].double().sum().item() for b, length in enumerate(LENGTHS)]
    won, dead = torch.tensor([True, False, True, True, False]), torch.tensor([0, 3, 1, 0, 3])
    yield WinRate, (won,), won.double().tolist()
    yield EpisodeReturn, (REWARD, MASK), returns
    yield EpisodeLength, (MASK,), LENGTHS.double().tolist()
    yield Deaths, (dead,), dead.double().tolist()


CASES = pytest.mark.parametrize(
    ("member", "arguments", "numbers"), [*one_number_an_episode()], ids=lambda x: getattr(x, "__name__", "")
)


@CASES
def test_it_is_the_mean_over_episodes(member, arguments, numbers):
    metric = member()
    metric.update(*arguments)
    assert metric.compute().item() == pytest.approx(sum(numbers) / 5)


@CASES
def test_uneven_batches_change_nothing(member, arguments, numbers):
    whole, parts = member(), member()
    whole.update(*arguments)
    for part in (slice(0, 1), slice(1, 1), slice(1, 5)):
        parts.update(*(argument[part] for argument in arguments))
    assert parts.compute() == whole.compute()
    assert parts.interval() == whole.interval()


@CASES
def test_processes_are_counted_together(member, arguments, numbers):
    # The gathering of torch.distributed, as if two processes had played the same episodes.
    metric = member(dist_sync_fn=lambda state, group: [state, state], distributed_available_fn=lambda: True)
    twice = member()
    metric.update(*arguments)
    for _ in range(2):
        twice.update(*arguments)
    assert metric.interval() == twice.interval()
    assert metric.compute() == twice.compute()
    assert metric.episodes == 5


@CASES
def test_it_begins_anew_after_a_reset(member, arguments, numbers):
    metric = member()
    metric.update(*arguments)
    metric.reset()
    metric.update(*(argument[:1] for argument in arguments))
    assert metric.compute().item() == pytest.approx(numbers[0])


@CASES
def test_the_normal_interval_has_the_standard_error_of_the_mean(member, arguments, numbers):
    metric = member()
    metric.update(*arguments)
    half = 1.96 * torch.tensor(numbers).std().item() / 5**0.5
    expected = (sum(numbers) / 5 - half, sum(numbers) / 5 + half)
    if member is WinRate:
        expected = wilson_interval(3, 5)
    assert metric.interval() == pytest.approx(expected, abs=1e-5)


def test_a_single_episode_says_nothing_of_the_spread():
    metric = EpisodeLength()
    metric.update(MASK[:1])
    assert metric.interval() == (-math.inf, math.inf)


def test_rewards_of_padding_do_not_count_even_if_they_are_no_numbers():
    metric = EpisodeReturn()
    metric.update(REWARD.masked_fill(~MASK, math.nan), MASK)
    assert metric.compute().isfinite()


def test_equal_returns_have_no_spread():
    metric = EpisodeReturn()
    for _ in range(100):
        metric.update(torch.full((1, 1, 1), 20.1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert metric.interval() == pytest.approx((20.1, 20.1), abs=1e-5)


def test_the_final_value_is_that_of_the_last_step_played():
    value = torch.arange(25.0).view(5, 5, 1)
    expected = torch.stack([value[b, length - 1, 0] for b, length in enumerate(LENGTHS)])
    assert torch.equal(final_value(value, MASK), expected)
    assert final_value(value > 3, MASK).dtype == torch.bool


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (1, 1, 0.2065, 1.0)]
)
def test_wilsons_interval_equals_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilsons_interval_solves_the_equation_it_comes_from():
    for end in wilson_interval(7, 32, z=2.5):
        assert abs(7 / 32 - end) == pytest.approx(2.5 * math.sqrt(end * (1 - end) / 32))


def test_wilsons_interval_is_symmetric_in_success_and_failure():
    low, high = wilson_interval(3, 17)
    assert wilson_interval(14, 17) == pytest.approx((1 - high, 1 - low))


def test_nothing_is_known_of_no_trials():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_trials_are_refused():
    with pytest.raises(ValueError, match="got 3 successes in 2 trials"):
        wilson_interval(3, 2)
