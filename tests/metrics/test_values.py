import pytest
import torch

from qmix_lightning.metrics.values import Overestimation

LENGTHS = torch.tensor([3, 1, 5, 2])
MASK = (torch.arange(5) < LENGTHS[:, None])[..., None]
PREDICTED, REALISED = torch.randn(2, 4, 5, 1, generator=torch.Generator().manual_seed(0))


def test_values_that_come_true_are_not_overestimated():
    metric = Overestimation()
    metric.update(REALISED, REALISED, MASK)
    assert metric.compute() == 0
    assert metric.interval() == (0, 0)


def test_a_promise_of_one_too_much_is_one_too_much():
    metric = Overestimation()
    metric.update(REALISED + 1, REALISED, MASK)
    assert metric.compute().item() == pytest.approx(1)


def test_every_episode_counts_alike_and_padding_not_at_all():
    metric = Overestimation()
    predicted = PREDICTED.masked_fill(~MASK, torch.inf)
    metric.update(predicted[:3], REALISED[:3], MASK[:3])
    metric.update(predicted[3:], REALISED[3:], MASK[3:])
    episodes = [
        sum(float(PREDICTED[b, t] - REALISED[b, t]) for t in range(length)) / length
        for b, length in enumerate(LENGTHS.tolist())
    ]
    assert metric.compute().item() == pytest.approx(sum(episodes) / 4)


def test_no_episode_adds_nothing():
    metric = Overestimation()
    metric.update(PREDICTED[:0], REALISED[:0], MASK[:0])
    metric.update(PREDICTED, REALISED, MASK)
    assert metric.episodes == 4
    assert metric.compute().isfinite()
