import re

import pytest

from qmix_lightning.envs.battle import reading
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.unit_types import load_unit

MAP = """
terrain = "field"
episode_limit = 60
attack_move_to = [0.5, 1.5]
[[allies]]
unit = "rifle"
count = 3
at = [0.5, 0.5]
[[enemies]]
unit = "rifle"
count = 3
at = [2.5, 1.5]
"""
UNIT = """
race = "terran"
attributes = ["light"]
health = 45.0
radius = 0.375
separation_radius = 0.375
inner_radius = 0.375
speed = 2.25
sight = 9.0
cooldown_scale = 15
[weapon]
damage = 6.0
range = 5.0
period = 0.8608
wind_up = 0.05
targets = ["ground"]
"""
FIELD = 'inner = "... ..#"\nouter = "... ..."\nheight = "7f7f7f 000000"'


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of data files in place of the package's, and how to write one."""
    monkeypatch.setattr(reading, "_DATA", tmp_path)
    load_scenario.cache_clear()
    load_unit.cache_clear()

    def write(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    write("maps/small.toml", MAP)
    write("units/rifle.toml", UNIT)
    write("terrains/field.toml", FIELD)
    yield write
    load_scenario.cache_clear()
    load_unit.cache_clear()


@pytest.mark.parametrize("name", ["3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m"])
def test_every_map_of_marines_is_two_squads_of_marines_on_the_band(name):
    loaded = load_scenario(name)
    assert [squad.at for squad in loaded.allies + loaded.enemies] == [(9.0, 16.0), (23.0, 16.0)]
    assert [unit.name for unit in loaded.unit_types] == ["marine"]
    assert loaded.attack_move_to == ((9.0, 16.0), (9.0, 16.0))
    assert len(loaded.walkable) == len(loaded.walkable[0]) == 32
    assert [y for y in range(32) if any(loaded.walkable[y])] == list(range(8, 24))


def test_a_map_is_what_its_files_say_with_the_south_at_zero(files):
    loaded = load_scenario("small")
    assert (loaded.n_agents, loaded.n_enemies, loaded.episode_limit) == (3, 3, 60)
    assert loaded.walkable == ((True, True, False), (True, True, True))
    assert load_scenario("small", "outer").walkable == ((True,) * 3,) * 2


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("maps/small.toml", "episode_limit = 60", "", "maps/small.toml lacks episode_limit. Expected the keys allies,"),
        ("maps/small.toml", "terrain", "fog = 1\nterrain", "maps/small.toml has the unknown key fog. Expected allies,"),
        ("maps/small.toml", "= 60", "= 60.5", "maps/small.toml: episode_limit must be a whole number of at least 1"),
        (
            "maps/small.toml",
            "count = 3",
            "count = 0",
            "maps/small.toml: allies.count must be a whole number of at least 1",
        ),
        (
            "maps/small.toml",
            "at = [0.5, 0.5]",
            "at = [0.5]",
            "maps/small.toml: allies.at must be a point [x, y], got [0.5].",
        ),
        ("maps/small.toml", '"rifle"', '"riffle"', "Unknown unit 'riffle'. Did you mean 'rifle'? Known: rifle."),
        ("maps/small.toml", '"field"', '"feld"', "Unknown terrain 'feld'. Did you mean 'field'? Known: field."),
        ("units/rifle.toml", "= 2.25", "= -1", "units/rifle.toml: speed must be a number of at least 0, got -1."),
        ("units/rifle.toml", "= 6.0", "= 0", "units/rifle.toml: weapon.damage must be a positive number, got 0."),
        ("units/rifle.toml", "period", "delay", "units/rifle.toml [weapon] lacks period."),
        ("maps/small.toml", "[0.5, 0.5]", "[4, 1]", "allies.at must lie on the map of 3 by 2 cells, got [4.0, 1.0]."),
        ("maps/small.toml", "at = [0.5, 0.5]", "", "maps/small.toml [[allies]] lacks at. Expected the keys at, count,"),
        ("units/rifle.toml", '"terran"', '"human"', "units/rifle.toml: race must be one of protoss, terran, zerg, got"),
        ("units/rifle.toml", '["light"]', '["tiny"]', "attributes must be a list out of armoured, biological, light,"),
        ("units/rifle.toml", '["ground"]', '["sea"]', "weapon.targets must be a list out of air, ground, got ['sea']."),
        ("units/rifle.toml", "45.0", '"many"', "units/rifle.toml: health must be a positive number, got 'many'."),
        ("terrains/field.toml", "..#", ".." + "." * 40, "inner must be rows of equal length of '.'"),
        ("terrains/field.toml", "7f7f7f", "7f7f", "height must be 2 rows of 3 pairs of hexadecimal digits."),
        ("terrains/field.toml", "..#", "..", "terrains/field.toml: inner must be rows of equal length of '.'"),
        ("terrains/field.toml", "..#", "..x", "terrains/field.toml: inner must be rows of equal length of '.'"),
        ("terrains/field.toml", "outer", "other", "terrains/field.toml lacks outer."),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(files, file, before, after, words):
    text = {"maps/small.toml": MAP, "units/rifle.toml": UNIT, "terrains/field.toml": FIELD}[file]
    assert before in text
    files(file, text.replace(before, after))
    with pytest.raises(ValueError, match=re.escape(words)):
        load_scenario("small")


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match=r"Unknown unit 'wizard'\. Known: baneling, colossus, .*zergling\."):
        load_unit("wizard")
