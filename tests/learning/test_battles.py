"""Battles that must be won: minutes each, so `make slow` runs them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, qmix

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_qmix_wins_95_of_100_battles_of_3m_at_the_end(seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qmix("fit", "--config", ROOT / "recipes/battle/3m.yaml", f"--seed_everything={seed}")
    events = EventAccumulator(str(tmp_path / "logs" / "battle-3m" / "version_0"))
    events.Reload()
    last = [point.value for point in events.Scalars("val/win_rate")[-3:]]
    assert sum(last) / 3 >= 0.95
