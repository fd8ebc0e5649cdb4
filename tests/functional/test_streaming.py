"""Copies past the caches are those of ``index_select``."""

import pytest
import torch

from qmix_lightning.functional import streaming
from qmix_lightning.functional.streaming import WIDENS, gather_rows, widen_rows


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(streaming, "LARGE", 1)
    calls = []

    def counted(*args):
        calls.append(args)
        return gather(*args)

    gather = streaming.gather
    monkeypatch.setattr(streaming, "gather", counted)
    return calls


def rows_of(width, count=40, offset=0):
    """Bytes that begin anywhere in a line of the processor's."""
    numbers = torch.randint(0, 255, (count * width + offset,), dtype=torch.uint8)
    return numbers[offset:].view(count, width)


CHOSEN = {
    "in any order": torch.randint(0, 40, (90,), generator=torch.Generator().manual_seed(0)),
    "one after the other": torch.arange(40),
    "runs, and the last again and again": torch.cat([torch.arange(5, 30), torch.full((20,), 39), torch.arange(3)]),
    "one": torch.tensor([7]),
}


@pytest.mark.parametrize("width", [1, 8, 180, 1024, 1025, 1088, 1288, 4099, 7040])
@pytest.mark.parametrize("offset", [0, 1, 63])
@pytest.mark.parametrize("chosen", CHOSEN)
def test_rows_are_those_of_index_select_wherever_they_lie(everything_is_large, width, offset, chosen):
    which = CHOSEN[chosen]
    rows, out = rows_of(width, offset=offset), rows_of(width, count=len(which), offset=2 * offset)
    assert gather_rows(rows, which, out) is out
    assert torch.equal(out, rows.index_select(0, which))
    assert everything_is_large


def test_nothing_beside_the_rows_is_written(everything_is_large):
    whole = torch.full((3 * 1111 + 200,), 9, dtype=torch.uint8)
    gather_rows(torch.zeros(2, 1111, dtype=torch.uint8), torch.tensor([1, 0, 1]), whole[100:-100].view(3, 1111))
    assert (whole == 9).sum() == 200
    assert (whole[100:-100] == 0).all()


def test_threads_share_the_rows(everything_is_large):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        rows, which = torch.randn(50, 7, 90), torch.randint(0, 50, (200,))
        assert torch.equal(gather_rows(rows, which, torch.empty(200, 7, 90)), rows[which])
    finally:
        torch.set_num_threads(before)
    assert [call[-2:] for call in everything_is_large] == [(0, 66), (66, 133), (133, 200)]


@pytest.mark.parametrize("wrong", [-1, 40])
def test_a_row_that_there_is_not_is_refused(everything_is_large, wrong):
    with pytest.raises(IndexError, match=rf"Expected rows from 0 to 39, got {min(wrong, 38)} to {max(wrong, 39)}"):
        gather_rows(rows_of(1024), torch.tensor([38, 39, wrong]), rows_of(1024, count=3))


def test_a_run_that_leads_beyond_the_last_row_is_refused(everything_is_large):
    with pytest.raises(IndexError):
        gather_rows(rows_of(1024)[:20], torch.arange(15, 25), rows_of(1024, count=10))


def test_what_does_not_lie_side_by_side_is_left_to_torch(everything_is_large):
    rows, which = torch.randn(9, 400, 3).transpose(1, 2), torch.tensor([8, 0, 0, 3])
    assert torch.equal(gather_rows(rows, which, torch.empty(4, 3, 400)), rows[which])
    assert not everything_is_large


def test_no_rows_are_none():
    assert gather_rows(torch.zeros(3, 2), torch.tensor([], dtype=torch.int64), torch.empty(0, 2)).shape == (0, 2)


def test_little_is_copied_past_the_caches_if_it_is_part_of_much(monkeypatch):
    calls, gather = [], streaming.gather
    monkeypatch.setattr(streaming, "gather", lambda *args: calls.append(args) or gather(*args))
    rows, which = torch.randn(50, 7), torch.randint(0, 50, (200,))
    assert torch.equal(gather_rows(rows, which, torch.empty(200, 7)), rows[which])
    assert not calls
    assert torch.equal(gather_rows(rows, which, torch.empty(200, 7), whole=streaming.LARGE), rows[which])
    assert len(calls) == 1


def halves_of(width, count=40, offset=0):
    """Numbers that begin anywhere in a line of the processor's, some of them special."""
    numbers = torch.randn(count * width + offset).half()
    numbers[:: width + 3] = torch.inf
    numbers[5 :: width + 7] = 6e-8  # the smallest there is
    numbers[7 :: width + 1] = -0.0
    return numbers[offset:].view(count, width)


def bits(tensor):
    return tensor.view(torch.int32)


@pytest.mark.skipif(not WIDENS, reason="this processor has no instruction that widens float16")
@pytest.mark.parametrize("width", [256, 257, 272, 1001])
@pytest.mark.parametrize("offset", [0, 1, 15])
@pytest.mark.parametrize("chosen", CHOSEN)
def test_halves_become_what_torch_makes_of_them_wherever_they_lie(everything_is_large, width, offset, chosen):
    which, rows = CHOSEN[chosen], halves_of(width, offset=offset)
    out = torch.empty(len(which) * width + offset)[offset:].view(len(which), width)
    assert widen_rows(rows, which, out)
    assert torch.equal(bits(out), bits(rows.index_select(0, which).float()))


@pytest.mark.skipif(not WIDENS, reason="this processor has no instruction that widens float16")
def test_what_is_no_number_stays_none_and_nothing_beside_is_written(everything_is_large):
    whole = torch.full((3 * 300 + 50,), 9.0)
    rows = torch.full((2, 300), torch.nan, dtype=torch.float16)
    assert widen_rows(rows, torch.tensor([1, 0, 1]), whole[25:-25].view(3, 300))
    assert whole[25:-25].isnan().all()
    assert (whole == 9.0).sum() == 50


@pytest.mark.skipif(not WIDENS, reason="this processor has no instruction that widens float16")
def test_halves_that_are_not_there_are_refused(everything_is_large):
    with pytest.raises(IndexError, match=r"Expected rows from 0 to 1, got 0 to 2"):
        widen_rows(torch.zeros(2, 300, dtype=torch.float16), torch.tensor([0, 2]), torch.empty(2, 300))


def test_what_pays_otherwise_is_left_alone(everything_is_large):
    which, out = torch.tensor([0]), torch.empty(1, 300)
    assert not widen_rows(torch.zeros(2, 300), which, out)
    assert not widen_rows(torch.zeros(300, 2, dtype=torch.float16).t(), which, out)
    assert not widen_rows(torch.zeros(2, 300, dtype=torch.float16), which, out.double())
    assert not widen_rows(torch.zeros(2, 300, dtype=torch.float16), which, torch.empty(2, 300))
    assert not widen_rows(torch.zeros(2, 3, dtype=torch.float16), which, torch.empty(1, 3))
