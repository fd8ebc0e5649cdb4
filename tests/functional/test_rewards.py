from __future__ import annotations

import torch

from qmix_lightning.functional.rewards import standardised


def test_the_mean_is_0_and_the_variance_1() -> None:
    reward = torch.randn(4, 5, 1, dtype=torch.float64) * 3 + 7
    result = standardised(reward)
    torch.testing.assert_close(result.mean(), torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(result.std(), torch.tensor(1.0, dtype=torch.float64))


def test_groups_are_standardised_as_if_alone() -> None:
    reward, groups = torch.randn(6, 3, 1), torch.tensor([7, 2, 7, 2, 2, 7]).view(6, 1, 1).expand(6, 3, 1)
    result = standardised(reward, groups=groups)
    for group in (2, 7):
        mine = groups == group
        torch.testing.assert_close(result[mine], standardised(reward[mine]))


def test_padding_neither_counts_nor_comes_back() -> None:
    reward, mask = torch.randn(5), torch.tensor([True, True, False, True, False])
    poisoned = reward.masked_fill(~mask, 1e9)
    result = standardised(torch.where(mask, poisoned, 0), mask)
    torch.testing.assert_close(result[mask], standardised(reward[mask]))
    assert (result[~mask] == 0).all()


def test_equal_rewards_become_0_and_not_nan() -> None:
    assert (standardised(torch.ones(4)) == 0).all()
    assert (standardised(torch.ones(1)) == 0).all()
