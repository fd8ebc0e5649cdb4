"""Prioritised replay of which every process has a share."""

import pytest
import torch

from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler

PRIORITY = torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0, 40.0, 0.1, 0.2, 60.0, 7.0], dtype=torch.float64)
SHARES = (PRIORITY[:6], PRIORITY[6:])


def sampler(priority, seed=0, **options):
    made = PrioritisedSampler(len(priority), seed, **{"alpha": 1.0, "epsilon": 1e-12, "beta": 1.0, **options})
    made.added(torch.arange(len(priority)))
    made.set_priorities(torch.arange(len(priority)), priority)
    return made


def draw_together(shares, batch_size):
    """Let samplers draw side by side, each knowing the least chance of all, as processes that exchange it do."""
    chances = []
    for share in shares:
        generator = share._generator.get_state()
        chances.append(float(share.race(batch_size)[1].min()))
        share._generator.set_state(generator)
    for share in shares:
        share.least_chance = lambda ours: min(chances)
    return [share.sample(len(SHARES[at]), batch_size) for at, share in enumerate(shares)]


def test_alone_the_largest_weight_of_a_batch_is_1():
    made = sampler(PRIORITY)
    assert all(float(made.sample(10, 4)[1].max()) == 1 for _ in range(20))


def test_the_weights_of_all_shares_are_on_one_scale():
    shares, twins = ([sampler(each, seed) for seed, each in enumerate(SHARES)] for _ in range(2))
    for _ in range(20):
        drawn = draw_together(shares, 3)
        raced = [twin.race(3) for twin in twins]
        assert all(torch.equal(index, twin) for (index, _), (twin, _) in zip(drawn, raced, strict=True))
        weight = torch.cat([weight for _, weight in drawn])
        chance = torch.cat([chance for _, chance in raced])
        assert float(weight.max()) == pytest.approx(1)
        torch.testing.assert_close(weight, chance.min() / chance)


def test_beta_is_applied_to_what_was_exchanged_too():
    one = sampler(PRIORITY, beta=0.5)
    twin = sampler(PRIORITY, beta=0.5)
    one.least_chance = lambda ours: ours / 16
    torch.testing.assert_close(one.sample(10, 4)[1], twin.sample(10, 4)[1] / 4)


def test_every_process_asks_once_a_draw_and_says_its_least_chance():
    made, twin, said = sampler(PRIORITY), sampler(PRIORITY), []
    made.least_chance = lambda ours: said.append(ours) or ours
    for _ in range(3):
        made.sample(10, 4)
    assert said == [float(twin.race(4)[1].min()) for _ in range(3)]


def test_the_sum_over_the_batches_of_all_shares_is_an_unbiased_estimate_of_the_sum_over_all():
    value = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0], dtype=torch.float64)
    shares, values = [sampler(each, seed) for seed, each in enumerate(SHARES)], (value[:6], value[6:])
    estimate = []
    for _ in range(600):
        races = [share.race(3) for share in shares]
        least = min(float(chance.min()) for _, chance in races)
        # Weights are least / chance: the sum of weighted values, over the least chance.
        parts = [(mine[i] * (least / chance)).sum() for mine, (i, chance) in zip(values, races, strict=True)]
        estimate.append(sum(parts) / least)
    found = torch.stack(estimate)
    # Five standard deviations of the mean.
    assert abs(float(found.mean() - value.sum())) < 5 * float(found.std()) / len(found) ** 0.5


def test_what_other_samplers_knew_is_taken_over():
    shares, made = [sampler(each, beta=0.4) for each in SHARES], sampler(torch.ones(9), seed=7, beta=1.0)
    made.inherit([share.state_dict() for share in shares], torch.tensor([1, 0, 0, 1]), torch.tensor([2, 0, 5, 1]))
    rates = made._rates[torch.arange(9)]
    torch.testing.assert_close(rates, torch.tensor([60.0, 1.0, 40.0, 0.2, 0, 0, 0, 0, 0], dtype=torch.float64))
    assert (made.highest, made.beta) == (60.0, 0.4)


def test_of_nobody_nothing_is_taken_over():
    made = sampler(torch.ones(9), beta=0.7)
    made.inherit([], torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    assert (made._rates.total, made.highest, made.beta) == (0, None, 0.7)


def test_samplers_of_another_kind_have_nothing_to_leave():
    none = torch.empty(0, dtype=torch.int64)
    UniformSampler().inherit([UniformSampler(1).state_dict()], none, none)
    with pytest.raises(ValueError, match=r"Expected the state of a PrioritisedSampler, .* got generator\."):
        sampler(PRIORITY).inherit([UniformSampler().state_dict()], none, none)
    with pytest.raises(ValueError, match=r"a sampler with alpha 1\.0, got one with 0\.6"):
        sampler(PRIORITY).inherit([sampler(PRIORITY, alpha=0.6).state_dict()], none, none)
