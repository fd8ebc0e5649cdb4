import re

import numpy as np
import pytest

from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.state import NOBODY, UNIT
from qmix_lightning.envs.battle.viewer.recording import SHOWN, kinds_of, shown
from tests.envs.battle.viewer.drawn import MARINE, recording, standing


def test_what_is_shown_of_units_is_what_they_are_to_the_bit():
    bits = np.random.default_rng(0).bytes(30 * UNIT.itemsize)
    units = np.frombuffer(bits, UNIT).reshape(3, 10)
    copy = shown(units)
    for name in set(SHOWN.names) & set(UNIT.names):
        assert copy[name].tobytes() == np.ascontiguousarray(units[name]).tobytes(), name
    assert (copy["flight_target"] == NOBODY).all() or "flight_target" in UNIT.names


def test_what_is_shown_stays_when_units_go_on():
    units = np.zeros(2, UNIT)
    copy = shown(units)
    units["health"] = 7
    assert (copy["health"] == 0).all()


def test_a_recording_counts_its_loops_and_steps():
    battle = recording(standing((MARINE, 9, 9), (MARINE, 12, 9), loops=24))
    assert (battle.loops, battle.steps) == (24, 3)


def test_kinds_are_those_of_the_scenario_in_its_order():
    scenario = load_scenario("3m")
    assert [kind.name for kind in kinds_of(scenario)] == [unit.name for unit in scenario.unit_types]
    assert kinds_of(scenario) == (MARINE,)


def test_frames_that_do_not_fit_the_steps_are_refused():
    frames = standing((MARINE, 9, 9), loops=16)
    words = "Expected frames [17, U] of SHOWN, one for the start and 8 for each of 2 steps, got [16, 1] of"
    with pytest.raises(ValueError, match=re.escape(words)):
        recording(frames[1:], rewards=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="Expected frames"):
        recording(np.zeros((17, 2), np.float32))
