import torch

from qmix_lightning.replay.samplers import UniformSampler


def test_a_batch_as_large_as_the_buffer_is_the_buffer():
    assert sorted(UniformSampler(0).sample(7, 7).tolist()) == list(range(7))


def test_a_batch_never_holds_an_episode_twice():
    sampler = UniformSampler(0)
    assert all(len(sampler.sample(10, 8).unique()) == 8 for _ in range(100))


def test_every_episode_and_every_pair_is_as_likely_as_any_other():
    sampler, draws = UniformSampler(0), 10_000
    together = torch.zeros(6, 6)
    for _ in range(draws):
        index = sampler.sample(6, 3)
        together[index[:, None], index] += 1
    single, pair = 3 / 6, 3 * 2 / (6 * 5)
    expected = torch.where(torch.eye(6).bool(), single, pair)
    # Five standard deviations of a share.
    assert ((together / draws - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_the_draws_depend_on_the_seed_alone():
    torch.manual_seed(0)
    first = UniformSampler(3).sample(100, 9)
    torch.manual_seed(1)
    assert torch.equal(UniformSampler(3).sample(100, 9), first)
    assert not torch.equal(UniformSampler(4).sample(100, 9), first)


def test_a_saved_sampler_draws_on_as_it_would_have():
    sampler, restored = UniformSampler(0), UniformSampler(1)
    sampler.sample(100, 9)
    restored.load_state_dict(sampler.state_dict())
    assert torch.equal(restored.sample(100, 9), sampler.sample(100, 9))
