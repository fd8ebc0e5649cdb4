import re

import numpy as np
import pytest

from qmix_lightning.envs.battle.scenario import load_scenario, map_names
from qmix_lightning.envs.battle.state import UNIT
from qmix_lightning.envs.battle.viewer.recording import SHOWN, kinds_of, shown
from tests.envs.battle.viewer.drawn import BANELING, MARINE, STALKER, ZEALOT, recording, standing


def test_what_is_shown_of_units_is_what_they_are_to_the_bit():
    bits = np.random.default_rng(0).bytes(30 * UNIT.itemsize)
    units = np.frombuffer(bits, UNIT).reshape(3, 10)
    copy = shown(units)
    for name in SHOWN.names:
        assert copy[name].tobytes() == np.ascontiguousarray(units[name]).tobytes(), name


def test_what_is_shown_stays_when_units_go_on():
    units = np.zeros(2, UNIT)
    copy = shown(units)
    units["health"] = 7
    assert (copy["health"] == 0).all()


def test_a_recording_counts_its_loops_and_steps():
    battle = recording(standing((MARINE, 9, 9), (MARINE, 12, 9), loops=24))
    assert (battle.loops, battle.steps) == (24, 3)


@pytest.mark.parametrize("name", map_names())
def test_kinds_are_those_of_the_scenario_in_its_order(name):
    scenario = load_scenario(name)
    assert [kind.name for kind in kinds_of(scenario)] == [unit.name for unit in scenario.unit_types]


def test_kinds_tell_how_they_fight():
    kinds = {kind.name: kind for name in map_names() for kind in kinds_of(load_scenario(name))}
    assert {name: kind.attack for name, kind in kinds.items()} == {
        "marine": "shot", "marauder": "missile", "medivac": "shot", "stalker": "missile", "zealot": "blade",
        "colossus": "beams", "zergling": "blade", "baneling": "blade", "hydralisk": "missile",
        "spine_crawler": "missile",
    }  # fmt: skip
    for drawn in (MARINE, ZEALOT, STALKER, BANELING):
        assert kinds[drawn.name] == drawn
    assert (kinds["colossus"].level, kinds["colossus"].sweep) == (1, 1.25)
    assert (kinds["medivac"].level, kinds["medivac"].energy, kinds["medivac"].range) == (2, 200, 0)


def test_frames_that_do_not_fit_the_steps_are_refused():
    frames = standing((MARINE, 9, 9), loops=16)
    words = "Expected frames [17, U] of SHOWN, one for the start and 8 for each of 2 steps, got [16, 1] of"
    with pytest.raises(ValueError, match=re.escape(words)):
        recording(frames[1:], rewards=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="Expected frames"):
        recording(np.zeros((17, 2), np.float32))
