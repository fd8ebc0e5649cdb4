from __future__ import annotations

import pytest
import torch

from qmix_lightning.functional.values import chosen_value, double_q_value, legal_argmax, legal_max


def test_without_a_mask_it_is_argmax() -> None:
    value = torch.randn(5, 3, 4)
    assert torch.equal(legal_argmax(value), value.argmax(-1))
    assert torch.equal(legal_argmax(value, torch.ones_like(value, dtype=torch.bool)), value.argmax(-1))


def test_double_q_is_single_q_when_both_networks_are_one() -> None:
    value, mask = torch.randn(6, 4), torch.rand(6, 4) < 0.8
    mask[:, 2] = True
    assert torch.equal(double_q_value(value, value, mask), torch.where(mask, value, -torch.inf).max(-1).values)


def test_the_greedy_action_is_the_one_that_a_loop_finds() -> None:
    torch.manual_seed(0)
    value, mask = torch.randn(50, 6), torch.rand(50, 6) < 0.5
    mask[:, 3] = True
    for row, legal, action in zip(value.tolist(), mask.tolist(), legal_argmax(value, mask).tolist(), strict=True):
        assert action == max((a for a in range(6) if legal[a]), key=lambda a, row=row: row[a])


def test_equals_go_to_the_first_legal_one() -> None:
    assert legal_argmax(torch.zeros(4), torch.tensor([False, True, True, False])) == 1


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_illegal_actions_hold_does_not_matter(poison: float) -> None:
    value = torch.tensor([poison, 1.0, 2.0])
    assert legal_argmax(value, torch.tensor([False, True, True])) == 2


def test_a_row_without_a_legal_action_is_refused_and_named() -> None:
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[1, 2] = False
    with pytest.raises(ValueError, match=r"a legal action in every row .* got none at index \[1, 2\].*no-op"):
        legal_argmax(torch.zeros(2, 3, 4), mask)
    assert legal_argmax(torch.zeros(2, 3, 4), mask, check=False).shape == (2, 3)


def test_a_mask_of_another_type_or_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be bool and of the shape \(2, 4\).*got torch.int64.*\.bool\(\)"):
        legal_argmax(torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"of shape \(4,\)"):
        legal_argmax(torch.zeros(2, 4), torch.ones(4, dtype=torch.bool))


def test_chosen_values_are_gathered_with_any_integer_type() -> None:
    value, action = torch.arange(6.0).view(2, 3), torch.tensor([2, 0], dtype=torch.int32)
    assert chosen_value(value, action).tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(2, 3\). One-hot actions"):
        chosen_value(value, value.long())


def test_the_best_value_is_the_value_of_the_best_action() -> None:
    value, mask = torch.randn(50, 6), torch.rand(50, 6) < 0.5
    mask[:, 0] = True
    for legal in (None, mask):
        torch.testing.assert_close(legal_max(value, legal), chosen_value(value, legal_argmax(value, legal)))


def test_a_row_without_a_legal_action_is_refused_but_not_a_value_of_minus_infinity() -> None:
    value, mask = torch.tensor([[-torch.inf, 1.0], [2.0, 3.0]]), torch.tensor([[True, False], [True, True]])
    assert legal_argmax(value, mask).tolist() == [0, 1]
    assert legal_max(value, mask).tolist() == [-torch.inf, 3.0]
    mask[1] = False
    for function in (legal_argmax, legal_max):
        with pytest.raises(ValueError, match=r"Expected a legal action in every row .*, got none at index \[1\]"):
            function(value, mask)
        function(value, mask, check=False)


def test_it_can_be_vectorised() -> None:
    value, mask = torch.randn(3, 4, 6), torch.ones(3, 4, 6, dtype=torch.bool)
    assert torch.equal(torch.vmap(legal_argmax)(value, mask), legal_argmax(value, mask))


def test_no_rows_have_no_best_action() -> None:
    assert legal_max(torch.zeros(0, 3), torch.ones(0, 3, dtype=torch.bool)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_masking_many_values_by_bits_is_masking_them_one_by_one(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(700, 3, 9, generator=generator).to(dtype)
    mask = torch.rand(700, 3, 9, generator=generator) < 0.5
    mask[..., 0] = True
    value[0, 0, :4] = torch.tensor([-0.0, torch.inf, -torch.inf, torch.finfo(dtype).min]).to(dtype)
    value[~mask] = torch.where(torch.rand(int((~mask).sum()), generator=generator) < 0.5, torch.nan, torch.inf).to(
        dtype
    )
    for v, m in ((value, mask), (value.transpose(0, 2), mask.transpose(0, 2).contiguous()), (value[::2], mask[::2])):
        legal = m.clone()
        legal[..., 0] = True
        v = torch.where(legal & v.isnan(), 0, v)
        one_by_one = torch.where(legal, v, -torch.inf)
        assert torch.equal(legal_max(v, legal), one_by_one.amax(-1))
        assert torch.equal(legal_argmax(v, legal), one_by_one.argmax(-1))


def test_the_gradient_of_the_best_of_many_values_is_one_where_it_is() -> None:
    value = torch.randn(2000, 9, requires_grad=True)
    mask = torch.rand(2000, 9) < 0.5
    mask[:, 0] = True
    legal_max(value, mask).sum().backward()
    assert torch.equal(value.grad.argmax(-1), legal_argmax(value, mask))
    assert (value.grad.sum(-1) == 1).all()
