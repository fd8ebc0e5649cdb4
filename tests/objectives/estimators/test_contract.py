from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qmix_lightning.functional.returns import td_lambda_targets
from qmix_lightning.objectives.estimators.base import ValueEstimators
from qmix_lightning.objectives.estimators.registry import make_estimator
from qmix_lightning.objectives.estimators.td0 import TD0Estimator
from qmix_lightning.objectives.estimators.td1 import TD1Estimator
from qmix_lightning.objectives.estimators.td_lambda import TDLambdaEstimator


def window(*shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    terminated = torch.rand(*shape, 1) < 0.2
    return torch.randn(*shape, 1), torch.randn(*shape, 1), terminated, terminated | (torch.rand(*shape, 1) < 0.2)


def test_it_computes_the_function_it_is_named_after() -> None:
    expected = td_lambda_targets(*window(4, 6), gamma=0.9, lmbda=0.5)
    torch.testing.assert_close(TDLambdaEstimator(gamma=0.9, lmbda=0.5)(*window(4, 6)), expected)


@pytest.mark.parametrize("estimator", [TD0Estimator(), TD1Estimator(), TDLambdaEstimator()])
def test_time_may_be_any_batch_dimension(estimator: TDLambdaEstimator) -> None:
    columns = window(3, 4, 6)
    expected = estimator(*columns)
    for dim in (0, 1):
        moved = [column.transpose(dim, 2) for column in columns]
        torch.testing.assert_close(estimator(*moved, time_dim=dim).transpose(dim, 2), expected)


@pytest.mark.parametrize("estimator", [TD1Estimator(), TDLambdaEstimator()])
def test_a_step_before_padding_ends_its_trajectory(estimator: TDLambdaEstimator) -> None:
    columns = window(4, 6)
    mask = torch.arange(6).view(1, 6, 1).expand(4, 6, 1) < 4
    got = estimator(*columns, mask=mask)[:, :4]
    torch.testing.assert_close(got, estimator(*(column[:, :4] for column in columns)))


def test_one_step_for_each_transition_is_the_plain_discount() -> None:
    columns = window(4, 6)
    steps = torch.ones(4, 6, 1, dtype=torch.int64)
    for estimator in (TD0Estimator(), TDLambdaEstimator()):
        torch.testing.assert_close(estimator(*columns, steps=steps), estimator(*columns))


def test_names_enums_classes_and_instances_all_do() -> None:
    instance = TD1Estimator(gamma=0.5)
    assert make_estimator(instance, "loss") is instance
    for name in ("td1", "TD1", ValueEstimators.TD1, TD1Estimator):
        made = make_estimator(name, "loss", gamma=0.5)
        assert isinstance(made, TD1Estimator)
        assert made.gamma == 0.5


def test_an_integer_discount_is_a_float_and_options_without_effect_pass() -> None:
    estimator = make_estimator("tdlambda", "loss", gamma=1, differentiable=False, vectorized=True)
    assert estimator.gamma.dtype == torch.float32
    assert list(estimator.state_dict()) == ["gamma", "lmbda"]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lmbda must lie in \[0, 1\], got -0.1"):
        TDLambdaEstimator(lmbda=-0.1)
    with pytest.raises(TypeError, match=r"lmbda"):
        make_estimator("td0", "loss", lmbda=0.5)


def test_a_hyper_parameter_of_another_estimator_is_refused_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"TD0 has no hyper-parameter 'lmbda', it has gamma, .* belongs to TDLambda"):
        make_estimator("TD0", "QMixerLoss", lmbda=0.5)


def test_names_may_be_written_with_underscores() -> None:
    assert make_estimator("td_lambda", "QMixerLoss").value_type is ValueEstimators.TDLambda
