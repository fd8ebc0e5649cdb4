"""Copies past the caches are those of ``index_select``."""

import pytest
import torch

from qmix_lightning.functional import streaming
from qmix_lightning.functional.streaming import gather_rows


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(streaming, "LARGE", 1)
    calls = []

    def counted(*args):
        calls.append(args)
        return stream(*args)

    stream = streaming.stream
    monkeypatch.setattr(streaming, "stream", counted)
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


@pytest.mark.parametrize("width", [1024, 1025, 1088, 1288, 4099, 7040])
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


@pytest.mark.parametrize("rows", [torch.randn(9, 400, 3).transpose(1, 2), torch.randn(9, 3)], ids=["strided", "narrow"])
def test_what_is_not_worth_it_goes_through_the_caches(everything_is_large, rows):
    which = torch.tensor([8, 0, 0, 3])
    assert torch.equal(gather_rows(rows, which, torch.empty(4, *rows.shape[1:])), rows[which])
    assert not everything_is_large


def test_no_rows_are_none():
    assert gather_rows(torch.zeros(3, 2), torch.tensor([], dtype=torch.int64), torch.empty(0, 2)).shape == (0, 2)
