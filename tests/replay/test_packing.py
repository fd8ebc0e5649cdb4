import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from qmix_lightning.replay.packing import pack_bits, unpack_bits


@given(some.integers(0, 5), some.lists(some.integers(1, 5), max_size=3), some.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_what_was_packed_comes_back_exactly(n, shape, seed):
    truths = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    again = torch.empty_like(truths)
    assert unpack_bits(pack_bits(truths), again) is again
    assert torch.equal(again, truths)


@pytest.mark.parametrize(("shape", "bytes_"), [((1,), 1), ((8,), 1), ((9,), 2), ((10, 18), 23)])
def test_eight_fit_in_a_byte_across_all_dimensions_of_a_row(shape, bytes_):
    assert pack_bits(torch.ones(3, *shape, dtype=torch.bool)).shape == (3, bytes_)


def test_it_packs_what_numpy_packs():
    truths = torch.rand(100, 3, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    oracle = np.packbits(truths.flatten(1).numpy(), axis=-1, bitorder="little")
    assert torch.equal(pack_bits(truths), torch.from_numpy(oracle))
