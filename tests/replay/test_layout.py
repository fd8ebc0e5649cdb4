import pytest
import torch

from qmix_lightning.replay.layout import Layout
from qmix_lightning.spec import ACTION_MASK, OBSERVATION, REWARD, STATE


def form(key, dtype, precision="float16", pack=True):
    return Layout.of(key, (3,), dtype, precision, pack).form


def test_by_default_everything_is_kept_as_it_is():
    for key, dtype in ((OBSERVATION, torch.float32), (ACTION_MASK, torch.bool)):
        assert form(key, dtype, "float32", pack=False) == "plain"


def test_only_observations_and_states_of_float32_lose_precision():
    assert [form(key, torch.float32) for key in (OBSERVATION, STATE, REWARD)] == ["float16", "float16", "plain"]
    assert form(STATE, torch.float64) == form(STATE, torch.int64) == "plain"


def test_all_truth_values_are_packed_and_nothing_else():
    assert [form(ACTION_MASK, dtype) for dtype in (torch.bool, torch.uint8)] == ["bits", "plain"]


@pytest.mark.parametrize("kind", ["plain", "float16", "bits"])
def test_a_form_says_what_it_takes_and_comes_back(kind):
    dtype = torch.bool if kind == "bits" else torch.float32
    layout, steps = Layout((3, 5), dtype, kind), (torch.randn(7, 3, 5) > 0).to(dtype)
    kept, again = layout.encode(steps), torch.empty(7, 3, 5, dtype=dtype)
    assert (tuple(kept.shape[1:]), kept.dtype) == layout.row
    assert kept[0].nbytes == layout.row_bytes
    assert steps[0].nbytes == layout.step_bytes
    layout.decode(kept, again)
    assert torch.equal(again, steps)
    assert Layout(**layout.state_dict()) == layout


def test_half_precision_is_off_by_no_more_than_a_rounding():
    layout, steps = Layout((1_000,), torch.float32, "float16"), torch.randn(9, 1_000).double().float()
    again = torch.empty_like(steps)
    layout.decode(layout.encode(steps), again)
    # Half a unit in the last of eleven places; below 2⁻¹⁴ the unit no longer shrinks.
    assert ((again - steps).abs() <= steps.abs().clamp(min=2.0**-14) * 2.0**-11).all()


@pytest.mark.parametrize("number", [70_000.0, -torch.inf])
def test_numbers_too_large_for_half_precision_are_refused(number):
    layout = Layout((2,), torch.float32, "float16")
    with pytest.raises(ValueError, match=r"at most 65504 to keep as float16, got (70000|inf)\. Keep them as float32"):
        layout.encode(torch.tensor([[1.0, number]]))
    assert layout.encode(torch.tensor([[65_504.0, torch.nan]])).isnan().sum() == 1
