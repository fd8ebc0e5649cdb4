"""What every sampler does where no episode is preferred to another: all members draw alike."""

import pytest
import torch

from qmix_lightning.replay.samplers.prioritised import PrioritisedSampler
from qmix_lightning.replay.samplers.uniform import UniformSampler


def newcomers(size, seed=0, **options):
    sampler = PrioritisedSampler(size, seed, **options)
    sampler.added(torch.arange(size))
    return sampler


def equals(size, seed=0):
    sampler = newcomers(size, seed)
    sampler.set_priorities(torch.arange(size), torch.full((size,), 0.37))
    return sampler


def flattened(size, seed=0):
    sampler = newcomers(size, seed, alpha=0.0)
    sampler.set_priorities(torch.arange(size), torch.logspace(-9, 9, size))
    return sampler


def uniform(size, seed=0):
    return UniformSampler(seed)


@pytest.fixture(params=[uniform, newcomers, equals, flattened], ids=lambda make: make.__name__)
def make(request):
    return request.param


def test_a_batch_as_large_as_the_buffer_is_the_buffer(make):
    assert sorted(make(7).sample(7, 7)[0].tolist()) == list(range(7))


def test_a_batch_never_holds_an_episode_twice(make):
    sampler = make(10)
    assert all(len(sampler.sample(10, 8)[0].unique()) == 8 for _ in range(100))


def test_every_episode_and_every_pair_is_as_likely_as_any_other(make):
    sampler, draws = make(6), 2_000
    together = torch.zeros(6, 6)
    for _ in range(draws):
        index, _ = sampler.sample(6, 3)
        together[index[:, None], index] += 1
    single, pair = 3 / 6, 3 * 2 / (6 * 5)
    expected = torch.where(torch.eye(6).bool(), single, pair)
    # Five standard deviations of a share.
    assert ((together / draws - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_all_episodes_count_alike_exactly(make):
    sampler = make(100)
    for _ in range(20):
        _, weight = sampler.sample(100, 32)
        assert weight is None or torch.equal(weight, torch.ones(32, dtype=torch.float64))


def test_the_draws_depend_on_the_seed_alone(make):
    torch.manual_seed(0)
    first, _ = make(100, 3).sample(100, 9)
    torch.manual_seed(1)
    assert torch.equal(make(100, 3).sample(100, 9)[0], first)
    assert not torch.equal(make(100, 4).sample(100, 9)[0], first)


def test_a_saved_sampler_draws_on_as_it_would_have(make):
    sampler, restored = make(100, 0), make(100, 1)
    sampler.sample(100, 9)
    restored.load_state_dict(sampler.state_dict())
    for _ in range(3):
        assert torch.equal(restored.sample(100, 9)[0], sampler.sample(100, 9)[0])
