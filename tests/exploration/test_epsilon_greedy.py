import pytest
import torch
from torch import Generator

from qmix_lightning.exploration.epsilon_greedy import epsilon_greedy


def shares(value, mask, epsilon, draws=100_000):
    rows = (draws, len(value))
    action = epsilon_greedy(value.expand(rows), mask.expand(rows), epsilon, Generator().manual_seed(0))
    return action.bincount(minlength=len(value)) / draws


def test_epsilon_0_is_the_best_legal_action():
    value = torch.randn(32, 3, 9, generator=Generator().manual_seed(0))
    mask = torch.rand(32, 3, 9, generator=Generator().manual_seed(1)) < 0.5
    mask[..., 4] = True
    expected = torch.tensor(
        [
            max((v, a) for a, v in enumerate(row) if legal[a])[1]
            for row, legal in zip(value.view(-1, 9).tolist(), mask.view(-1, 9).tolist(), strict=True)
        ]
    ).view(32, 3)
    assert torch.equal(epsilon_greedy(value, mask, 0.0), expected)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0])
def test_epsilon_is_shared_out_evenly_among_the_legal_actions(epsilon):
    value = torch.tensor([9.0, 1.0, 3.0, -2.0, 8.0])
    mask = torch.tensor([False, True, True, True, False])
    expected = torch.tensor([0.0, epsilon / 3, epsilon / 3 + 1 - epsilon, epsilon / 3, 0.0])
    # Five standard deviations of a share in 100,000 draws.
    tolerance = 5 * (expected * (1 - expected) / 100_000).sqrt()
    assert ((shares(value, mask, epsilon) - expected).abs() <= tolerance).all()


def test_values_in_half_precision_do_not_bend_the_draw():
    value, mask = torch.zeros(16, dtype=torch.bfloat16), torch.ones(16, dtype=torch.bool)
    assert (shares(value, mask, 1.0) - 1 / 16).abs().max() < 5 * (1 / 16 / 100_000) ** 0.5


def test_agents_explore_independently():
    value = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(50_000, 2, 4)
    action = epsilon_greedy(value, torch.ones_like(value, dtype=torch.bool), 0.5, Generator().manual_seed(0))
    strayed = (action != 0).double()
    assert abs(torch.corrcoef(strayed.T)[0, 1]) < 5 / 50_000**0.5


def test_the_same_generator_chooses_the_same_actions():
    value, mask = torch.zeros(32, 3, 9), torch.ones(32, 3, 9, dtype=torch.bool)
    first, second = (epsilon_greedy(value, mask, 0.7, Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, epsilon_greedy(value, mask, 0.7, Generator().manual_seed(6)))


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_an_epsilon_that_is_no_probability_is_refused(epsilon):
    with pytest.raises(ValueError, match=f"a number from 0 to 1, got {epsilon}"):
        epsilon_greedy(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), epsilon)


def test_an_agent_without_a_legal_action_is_refused():
    with pytest.raises(ValueError, match="legal action"):
        epsilon_greedy(torch.zeros(2, 3), torch.tensor([[True] * 3, [False] * 3]), 1.0)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(9,), (1, 1, 1), (7, 3, 9), (0, 3, 9)])
def test_the_compiled_loop_chooses_as_torch_does(epsilon, shape):
    value = torch.randn(shape, generator=Generator().manual_seed(0)).round()  # with equals
    mask = torch.rand(shape, generator=Generator().manual_seed(1)) < 0.5
    mask[..., -1] = True
    expected = epsilon_greedy(value.double(), mask, epsilon, Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(epsilon_greedy(value, mask, epsilon, Generator().manual_seed(2)), expected)


def test_rows_without_a_legal_action_are_refused_by_the_compiled_loop_too():
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[1, 2] = False
    with torch.no_grad(), pytest.raises(ValueError, match=r"Expected a legal action .* none at index \[1, 2\]"):
        epsilon_greedy(torch.zeros(2, 3, 4), mask, 0.5)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0])
def test_an_epsilon_in_a_tensor_chooses_what_a_number_does(epsilon):
    value, mask = torch.randn(500, 9), torch.rand(500, 9) < 0.5
    mask[:, 4] = True
    number, tensor = (
        epsilon_greedy(value, mask, e, Generator().manual_seed(1))
        for e in (epsilon, torch.tensor(epsilon, dtype=torch.float64))
    )
    assert torch.equal(number, tensor)
