from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit

from qmix_lightning.functional.stages import call, stage_of


class Parts(NamedTuple):
    numbers: Any
    factor: int


@njit(nogil=True, _nrt=False)
def scale(parts, more, share, offset=7):
    for i in range(len(parts.numbers)):
        parts.numbers[i] = parts.numbers[i] * parts.factor + more[0][i]["height"] * share
    return int(more[1]) + offset


@njit(nogil=True, _nrt=False)
def call_both(first, second):
    return call(first) - 2 * call(second)


@njit(nogil=True, _nrt=False)
def call_nested(stages):
    return call(stages[0]) + len(stages[1])


def parts(start):
    return Parts(np.arange(start, start + 3, dtype=np.float32), 10)


def records():
    return np.array([(1, 1.0), (2, 2.0), (3, 3.0)], dtype=[("name", np.int64), ("height", np.float64)])


def test_a_stage_does_what_the_kernel_does_with_its_arguments():
    first, second = (stage_of(scale, parts(start), (records(), 5), 0.5) for start in (0, 4))
    expected, same = parts(0), parts(4)
    assert call_both(first, second) == scale(expected, (records(), 5), 0.5) - 2 * scale(same, (records(), 5), 0.5)
    np.testing.assert_array_equal(first.arguments[0].numbers, expected.numbers)
    np.testing.assert_array_equal(second.arguments[0].numbers, same.numbers)


def test_what_is_in_its_arrays_is_read_anew_by_every_call():
    stage = stage_of(scale, parts(0), (records(), 5), 0.0)
    stage.arguments[0].numbers[:] = 1.0
    call_both(stage, stage)
    np.testing.assert_array_equal(stage.arguments[0].numbers, [100.0, 100.0, 100.0])


def test_a_stage_can_have_others_among_its_arguments():
    inner = stage_of(scale, parts(0), (records(), 5), 1.0)
    outer = stage_of(call_nested, (inner, np.zeros(4)))
    assert call_both(outer, outer) == -(5 + 7 + 4)


def test_a_default_is_part_of_the_stage():
    assert call_both(*[stage_of(scale, parts(0), (records(), 5), 1.0, offset) for offset in (3, 0)]) == 8 - 2 * 5


@pytest.mark.parametrize("returned", [None, 2.0, True])
def test_what_returns_no_integer_is_no_stage(returned):
    @njit
    def kernel(numbers):
        return returned

    with pytest.raises(TypeError, match=r"A stage returns an integer of 64 bits, but kernel returns"):
        stage_of(kernel, np.zeros(3))
