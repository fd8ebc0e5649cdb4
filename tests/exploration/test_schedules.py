import pytest
import torch

from qmix_lightning.exploration.schedules import linear


def test_it_begins_at_the_start_and_stays_at_the_end_exactly():
    assert linear(0, 1.0, 0.05, 50_000) == 1.0
    assert linear(50_000, 1.0, 0.05, 50_000) == 0.05
    assert linear(10**9, 1.0, 0.05, 50_000) == 0.05


def test_it_goes_up_as_well_as_down_in_equal_steps():
    assert [linear(step, 0.0, 8.0, 4) for step in range(6)] == [0.0, 2.0, 4.0, 6.0, 8.0, 8.0]
    assert [linear(step, 8.0, 0.0, 4) for step in range(6)] == [8.0, 6.0, 4.0, 2.0, 0.0, 0.0]


def test_equal_ends_make_a_constant():
    assert [linear(step, 0.3, 0.3, 7) for step in range(10)] == pytest.approx([0.3] * 10)


def test_a_way_without_length_is_refused():
    with pytest.raises(ValueError, match="steps >= 1, got 0; for a constant, set start = end"):
        linear(0, 1.0, 0.0, 0)


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="starts at step 0, got step -1"):
        linear(-1, 1.0, 0.0, 10)


def test_a_tensor_is_followed_to_the_bit():
    for start, end, steps in ((1.0, 0.05, 50_000), (0.0, 8.0, 7), (0.3, 0.3, 1)):
        for step in (0, 1, 2, 3, 12_345, 49_999, 50_000, 10**9):
            assert linear(torch.tensor(step), start, end, steps).item() == linear(step, start, end, steps)
