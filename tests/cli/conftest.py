"""What tests of the command line share."""

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
