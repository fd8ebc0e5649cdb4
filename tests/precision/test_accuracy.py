"""How exact an update in half precision is, against the same one in double precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from benchmarks.precision import PRECISIONS, Update, trained
from tests.training import LIGHTNINGS_OWN_WARNING

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Errors, gradients and greedy actions in each precision, of values up to 20, as SMAC's are."""
    learner, batch = trained("3m", 1, 16)
    loss = learner.loss
    torch.manual_seed(2)
    with torch.no_grad():
        learner.agent.head.weight *= 5
        learner.mixer.V[-1].bias += 10
        learner.target_update.init_()
        for name in ("local_value_network", "mixer_network"):
            for tensor in loss.target_params(name).values(True, True):
                if tensor.is_floating_point():
                    tensor += 0.02 * torch.randn_like(tensor)
    return {name: Update(learner, batch, precision).outcome() for name, precision in PRECISIONS.items()}


def off(outcomes: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]], name: str) -> float:
    return float((outcomes[name][0] - outcomes["64-true"][0]).square().mean().sqrt())


def test_errors_in_mixed_precision_are_more_exact_than_those_of_a_mixer_in_half_precision(outcomes) -> None:
    assert off(outcomes, "32-true") < 1e-5
    assert off(outcomes, "16-mixed") < off(outcomes, "bf16-mixed") < 0.02
    assert 1.5 * off(outcomes, "bf16-mixed") < off(outcomes, "all in bf16")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_gradients_point_where_they_do_in_double_precision(outcomes, precision: str) -> None:
    assert cosine_similarity(outcomes[precision][1], outcomes["64-true"][1], dim=0) > 0.999


def test_few_greedy_actions_change(outcomes) -> None:
    for precision, share in (("32-true", 1e-3), ("16-mixed", 0.01), ("bf16-mixed", 0.05)):
        assert (outcomes[precision][2] != outcomes["64-true"][2]).double().mean() <= share
