from __future__ import annotations

import torch

from qmix_lightning.functional.masks import masked_mean, seen_steps, without_padding


def test_no_mask_and_a_full_mask_are_the_plain_mean() -> None:
    value = torch.randn(3, 4, 1)
    torch.testing.assert_close(masked_mean(value, None), value.mean())
    torch.testing.assert_close(masked_mean(value, torch.ones(3, 4, 1, dtype=torch.bool)), value.mean())


def test_appending_padding_does_not_move_the_mean() -> None:
    value, mask = torch.randn(3, 4, 1), torch.rand(3, 4, 1) < 0.7
    longer, longer_mask = torch.cat([value, value], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
    torch.testing.assert_close(masked_mean(longer, longer_mask), masked_mean(value, mask))


def test_a_batch_of_nothing_but_padding_has_mean_zero() -> None:
    assert masked_mean(torch.randn(3, 4, 1), torch.zeros(3, 4, 1, dtype=torch.bool)) == 0


def test_padding_reaches_neither_value_nor_gradient() -> None:
    value = torch.tensor([[[1.0, 2.0]], [[float("nan"), float("inf")]]], requires_grad=True)
    cleaned = without_padding(value, torch.tensor([[True], [False]]))
    assert cleaned.tolist() == [[[1, 2]], [[0, 0]]]
    (cleaned**2).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[[2, 4]], [[0, 0]]]


def test_the_step_after_a_played_one_is_seen() -> None:
    played = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool().unsqueeze(-1)
    assert seen_steps(played).squeeze(-1).int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
