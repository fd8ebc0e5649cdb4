"""The page on precision: its example runs, and its tables are what the benchmark prints."""

from __future__ import annotations

import re

import pytest

from benchmarks.precision import PRECISIONS
from tests.training import ROOT

TEXT = (ROOT / "docs/precision.md").read_text()


@pytest.mark.filterwarnings("error")
def test_the_example_runs():
    for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        exec(compile(block, "precision.md", "exec"), {})


def test_every_precision_of_the_benchmark_is_in_its_tables():
    rows = re.findall(r"^\| ([\w -]+?) *\| \d[\d.e-]* ", TEXT, re.MULTILINE)
    assert rows[: len(PRECISIONS)] == list(PRECISIONS) == rows[len(PRECISIONS) : 2 * len(PRECISIONS)]


def test_links_lead_to_files():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
