import io
from itertools import permutations

import pytest
import torch

from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler

PRIORITY = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0, 40.0], dtype=torch.float64)


def sampler(priority=PRIORITY, **options):
    made = PrioritisedSampler(len(priority), **{"alpha": 1.0, "epsilon": 1e-12, **options})
    made.added(torch.arange(len(priority)))
    made.set_priorities(torch.arange(len(priority)), priority)
    return made


def rate(made):
    return made._rates[torch.arange(made._rates.capacity)]


def test_a_batch_of_one_is_drawn_in_proportion_to_the_powers_of_the_priorities():
    made, draws = sampler(alpha=0.6), 3_000
    drawn = torch.cat([made.sample(6, 1)[0] for _ in range(draws)])
    share, expected = torch.bincount(drawn, minlength=6) / draws, PRIORITY**0.6 / (PRIORITY**0.6).sum()
    # Five standard deviations of a share, here and below.
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_every_order_is_as_likely_as_when_episodes_are_drawn_one_by_one_from_those_left():
    made, draws, priority = sampler(), 3_000, PRIORITY.tolist()
    counts = dict.fromkeys(permutations(range(6), 2), 0)
    for _ in range(draws):
        counts[tuple(made.race(2)[0].tolist())] += 1
    for (first, second), count in counts.items():
        expected = priority[first] / sum(priority) * priority[second] / (sum(priority) - priority[first])
        assert abs(count / draws - expected) < 5 * (expected * (1 - expected) / draws) ** 0.5


@pytest.mark.parametrize("batch_size", [3, 5])
def test_a_sum_divided_by_the_chances_is_an_unbiased_estimate_of_the_sum_over_all(batch_size):
    made, value = sampler(), torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0], dtype=torch.float64)
    races = [made.race(batch_size) for _ in range(2_000)]
    estimate = torch.stack([(value[index] / chance).sum() for index, chance in races])
    error = float(estimate.std()) / len(races) ** 0.5
    assert abs(float(estimate.mean() - value.sum())) < 5 * error


def test_a_batch_of_all_there_is_has_no_bias_and_so_all_weights_are_1():
    made = sampler(beta=1.0)
    for _ in range(20):
        index, weight = made.sample(6, 6)
        assert sorted(index.tolist()) == list(range(6))
        assert torch.equal(weight, torch.ones(6, dtype=torch.float64))


def test_in_a_large_replay_the_weights_are_those_of_draws_with_replacement():
    priority = torch.rand(5_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    made = sampler(priority, beta=0.7)
    index, weight = made.sample(5_000, 32)
    with_replacement = priority[index] ** -0.7
    torch.testing.assert_close(weight, with_replacement / with_replacement.max(), rtol=0.01, atol=0)


def test_beta_may_change_between_draws():
    made = sampler(beta=0.0)
    assert torch.equal(made.sample(6, 3)[1], torch.ones(3, dtype=torch.float64))
    made.beta = 1.0
    assert made.sample(6, 3)[1].min() < 0.9


def test_a_draw_leaves_every_priority_as_it_was():
    made = sampler()
    before = [level.clone() for level in made._rates._levels]
    for batch_size in (1, 4, 6):
        made.sample(6, batch_size)
        assert all(torch.equal(one, other) for one, other in zip(before, made._rates._levels, strict=True))


def test_a_new_episode_has_the_highest_priority_so_far_and_1_before_any():
    made = PrioritisedSampler(8, alpha=0.5, epsilon=0.25)
    made.added(torch.tensor([0, 1, 2]))
    assert rate(made)[:3].tolist() == [1.25**0.5] * 3
    made.set_priorities(torch.tensor([0, 1]), torch.tensor([0.06, 0.11]))
    made.added(torch.tensor([3]))
    made.set_priorities(torch.tensor([0, 3]), torch.tensor([0.01, 0.02]))
    made.added(torch.tensor([4]))
    expected = torch.tensor([0.01, 0.11, 1.0, 0.02, 0.11]) + 0.25
    torch.testing.assert_close(rate(made), torch.cat([expected.double().sqrt(), torch.zeros(3).double()]))


def test_an_episode_without_any_error_comes_back_once_the_others_are_no_better():
    made = sampler(torch.tensor([0.0, 0.0, 0.0, 1.0]), epsilon=1e-6)
    assert sorted(made.sample(4, 4)[0].tolist()) == [0, 1, 2, 3]
    made.set_priorities(torch.tensor([3]), torch.tensor([0.0]))
    assert len({int(made.sample(4, 1)[0]) for _ in range(200)}) == 4


def test_priorities_that_differ_by_many_powers_of_ten_are_drawn_and_weighed_all_the_same():
    made = sampler(torch.logspace(-30, 30, 64, dtype=torch.float64), epsilon=1e-300)
    for _ in range(20):
        index, weight = made.sample(64, 60)
        assert len(index.unique()) == 60
        assert ((weight > 0) & (weight <= 1)).all()


def test_empty_places_are_never_drawn():
    made = PrioritisedSampler(5_000)
    made.added(torch.arange(40))
    assert all(int(made.sample(40, 32)[0].max()) < 40 for _ in range(50))


@pytest.mark.parametrize("known", [0, 7, 40])
def test_a_saved_sampler_is_read_without_running_code_and_goes_on_exactly(known):
    made, restored = PrioritisedSampler(5_000, 0, beta=0.4), PrioritisedSampler(5_000, 1, beta=0.9)
    made.added(torch.arange(40))
    restored.added(torch.arange(900))
    made.set_priorities(torch.arange(known), torch.rand(known))
    made.beta = 0.6
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    assert len(file.getvalue()) < 10_000, "no more room than its episodes take"
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for step in range(20):
        drawn, weight = made.sample(40 + step, 9)
        again, weight_again = restored.sample(40 + step, 9)
        assert torch.equal(drawn, again)
        assert torch.equal(weight, weight_again)
        for each in (made, restored):
            each.set_priorities(drawn, drawn / 10)
            each.added(torch.tensor([40 + step]))


@pytest.mark.parametrize("priority", [-1.0, torch.inf, torch.nan])
def test_a_priority_that_is_none_is_refused_and_changes_nothing(priority):
    made = sampler()
    before = rate(made).clone()
    words = rf"Expected finite priorities of at least 0, got \[2\.0, {priority}\]\. .* training has diverged"
    with pytest.raises(ValueError, match=words):
        made.set_priorities(torch.tensor([0, 1]), torch.tensor([2.0, priority]))
    assert torch.equal(rate(made), before)
    assert made.highest == 40.0


@pytest.mark.parametrize("exponent", [-0.1, 1.5])
def test_exponents_out_of_range_are_refused_by_name(exponent):
    with pytest.raises(ValueError, match=rf"priority exponent alpha must lie in \[0, 1\], got {exponent}"):
        PrioritisedSampler(8, alpha=exponent)
    with pytest.raises(ValueError, match=rf"importance exponent beta must lie in \[0, 1\], got {exponent}"):
        PrioritisedSampler(8, beta=exponent)


def test_an_epsilon_that_would_lose_episodes_is_refused():
    with pytest.raises(ValueError, match="epsilon must be positive, got 0: an episode of priority 0 would never"):
        PrioritisedSampler(8, epsilon=0)


def test_more_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="Expected at least 7 episodes to draw 7 from, got 6"):
        sampler().sample(6, 7)


def test_the_state_of_another_sampler_is_refused():
    words = "state of a PrioritisedSampler, with generator, rates, highest, alpha, beta, got generator. Make the"
    with pytest.raises(ValueError, match=words):
        sampler().load_state_dict(UniformSampler().state_dict())
    with pytest.raises(ValueError, match="state of a UniformSampler, with generator, got generator, rates"):
        UniformSampler().load_state_dict(sampler().state_dict())
    with pytest.raises(ValueError, match=r"a sampler with alpha 1\.0, got one with 0\.6"):
        sampler().load_state_dict(sampler(alpha=0.6).state_dict())


def test_a_uniform_sampler_has_no_use_for_priorities():
    words = r"goes by priorities, got a UniformSampler\. Take a PrioritisedSampler, in a recipe data\.prioritised: true"
    with pytest.raises(TypeError, match=words):
        UniformSampler().set_priorities(torch.tensor([0]), torch.tensor([1.0]))
