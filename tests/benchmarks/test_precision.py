"""The benchmark of precisions runs, at a tiny size, and prints its rows."""

from __future__ import annotations

import pytest

from benchmarks.precision import PRECISIONS, compare, curves
from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL

pytestmark = pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)


def test_there_is_a_row_for_each_precision_and_double_precision_is_exact():
    table = compare("3m", updates=1, batch_size=2, rounds=1)
    assert [row[0] for row in table.rows] == list(PRECISIONS)
    assert table.rows[0][1:5] == ("0", "0", "1.000000", "0.00%")
    assert all(len(row) == len(table.header) for row in table.rows)
    assert "Bar: errors of bf16-mixed" in str(table)


@pytest.mark.slow
def test_trainings_are_compared_in_both_precisions():
    table = curves(ROOT / "recipes/battle/3m.yaml", [1], SMALL)
    assert [row[:2] for row in table.rows] == [("32-true", "1"), ("bf16-mixed", "1")]
    assert all(row[3] == "2" for row in table.rows)
