from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qmix_lightning.functional.returns import td0_targets, td1_targets, td_lambda_targets
from tests.oracles import n_step_mixture, td_lambda

Window = tuple[Tensor, Tensor, Tensor, Tensor]


def window(*shape: int, seed: int = 0) -> Window:
    """Reward, next value, terminated and done, with boundaries of both kinds inside."""
    g = torch.Generator().manual_seed(seed)
    reward, value = (torch.randn(*shape, 1, generator=g, dtype=torch.float64) for _ in range(2))
    terminated, out_of_time = (torch.rand(*shape, 1, generator=g) < 0.2 for _ in range(2))
    return reward, value, terminated, terminated | out_of_time


def test_lambda_0_is_td0() -> None:
    reward, value, terminated, done = window(4, 9)
    expected = td0_targets(reward, value, terminated, gamma=0.9)
    torch.testing.assert_close(td_lambda_targets(reward, value, terminated, done, gamma=0.9, lmbda=0.0), expected)


def test_lambda_1_is_td1() -> None:
    expected = td1_targets(*window(4, 9), gamma=0.9)
    assert torch.equal(td_lambda_targets(*window(4, 9), gamma=0.9, lmbda=1.0), expected)


@pytest.mark.parametrize("lmbda", [0.0, 0.6, 1.0])
def test_gamma_0_is_the_reward(lmbda: float) -> None:
    assert torch.equal(td_lambda_targets(*window(4, 9), gamma=0.0, lmbda=lmbda), window(4, 9)[0])


def test_b_windows_equal_b_times_one_window() -> None:
    together = td_lambda_targets(*window(4, 9), gamma=0.9, lmbda=0.6)
    alone = [td_lambda_targets(*(x[b] for x in window(4, 9)), gamma=0.9, lmbda=0.6) for b in range(4)]
    torch.testing.assert_close(together, torch.stack(alone))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 17), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_td_lambda_is_the_recursion_written_out(steps: int, gamma: float, lmbda: float, seed: int) -> None:
    columns = window(steps, seed=seed)
    expected = td_lambda(*(column.squeeze(-1).tolist() for column in columns), gamma, lmbda)
    got = td_lambda_targets(*columns, gamma=gamma, lmbda=lmbda)
    torch.testing.assert_close(got.squeeze(-1), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("lmbda", [0.0, 0.3, 0.95, 1.0])
def test_td_lambda_is_the_mixture_of_n_step_returns(lmbda: float) -> None:
    reward, value, _, _ = window(11)
    no = torch.zeros(11, 1, dtype=torch.bool)
    expected = n_step_mixture(reward.squeeze(-1).tolist(), value.squeeze(-1).tolist(), 0.9, lmbda)
    got = td_lambda_targets(reward, value, no, no, gamma=0.9, lmbda=lmbda)
    torch.testing.assert_close(got.squeeze(-1), torch.tensor(expected, dtype=torch.float64))


def test_running_out_of_time_bootstraps_and_termination_does_not() -> None:
    reward, value = torch.ones(2, 3, 1), torch.full((2, 3, 1), 10.0)
    done = torch.tensor([[False, True, False]] * 2).unsqueeze(-1)
    terminated = done & torch.tensor([[[True]], [[False]]])
    targets = td1_targets(reward, value, terminated, done, gamma=1.0)
    assert targets.squeeze(-1).tolist() == [[2, 1, 11], [12, 11, 11]]


def test_the_arguments_are_left_as_they_are_and_no_gradient_flows() -> None:
    columns = window(4, 9)
    copies = [column.clone() for column in columns]
    columns[1].requires_grad_()
    assert not td_lambda_targets(*columns, gamma=0.9, lmbda=0.6).requires_grad
    assert all(torch.equal(column, copy) for column, copy in zip(columns, copies, strict=True))
