import ctypes

import numpy as np
import pytest

from qmix_lightning.functional.compiling import kernel_over
from qmix_lightning.functional.products import SGEMM, multiply


@kernel_over(multiply)
def product(sgemm, x, weight, out, share):
    multiply(sgemm, x, weight, out, share)


@pytest.mark.skipif(not SGEMM, reason="torch's library lends no sgemm")
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 7, 3), (48, 64, 192), (2, 130, 9), (0, 3, 4)])
@pytest.mark.parametrize("share", [0, 1])
def test_a_product_is_that_of_numpy(m, k, n, share):
    random = np.random.default_rng(m + n)
    x, weight, before = (random.normal(size=size).astype(np.float32) for size in ((m, k), (n, k), (m, n)))
    out = before.copy()
    product(SGEMM, x, weight, out, np.float32(share))
    np.testing.assert_allclose(out, x @ weight.T + share * before, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not SGEMM, reason="torch's library lends no sgemm")
def test_a_part_of_a_matrix_is_multiplied_where_it_is():
    whole, x = np.arange(40, dtype=np.float32).reshape(4, 10), np.arange(6, dtype=np.float32).reshape(2, 3)
    wide = np.full((2, 9), np.nan, dtype=np.float32)
    product(SGEMM, x, whole[:, 2:5], wide[:, 1:5], np.float32(0))
    np.testing.assert_array_equal(wide[:, 1:5], x @ whole[:, 2:5].T)
    assert np.isnan(wide[:, [0, 5, 6, 7, 8]]).all()


def test_what_was_there_does_not_matter_if_none_of_it_is_to_remain():
    if SGEMM:
        out = np.full((2, 2), np.nan, dtype=np.float32)
        product(SGEMM, np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), out, np.float32(0))
        assert (out == 3).all()


def test_no_rows_are_multiplied_without_a_word_of_complaint(capfd):
    if SGEMM:
        x, weight = np.ones((0, 3), np.float32), np.ones((4, 3), np.float32)
        none = np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (0, 4), (0, 4))
        product(SGEMM, x, weight, none, np.float32(0))
        ctypes.CDLL(None).fflush(None)
        assert capfd.readouterr().out == ""
