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
ALLIES = """[[allies]]
unit = "rifle"
count = 3
at = [0.5, 0.5]
"""
RANDOM = """
terrain = "field"
episode_limit = 60
hunt = true
[random_teams]
n_agents = 2
n_enemies = 2
units = ["rifle"]
weights = [1.0]
never_alone = []
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
    ("kind", "before", "after", "words"),
    [
        ("map", "episode_limit = 60", "", "maps/small.toml lacks episode_limit. Expected the keys allies,"),
        ("map", "terrain", "fog = 1\nterrain", "maps/small.toml has the unknown key fog. Expected allies,"),
        ("map", "= 60", "= 60.5", "maps/small.toml: episode_limit must be a whole number of at least 1"),
        (
            "map",
            "count = 3",
            "count = 0",
            "maps/small.toml: allies.count must be a whole number of at least 1",
        ),
        (
            "map",
            "at = [0.5, 0.5]",
            "at = [0.5]",
            "maps/small.toml: allies.at must be a point [x, y], got [0.5].",
        ),
        ("map", '"rifle"', '"riffle"', "Unknown unit 'riffle'. Did you mean 'rifle'? Known: rifle."),
        ("map", '"field"', '"feld"', "Unknown terrain 'feld'. Did you mean 'field'? Known: field."),
        ("unit", "= 2.25", "= -1", "units/rifle.toml: speed must be a number of at least 0, got -1."),
        ("unit", "= 6.0", "= 0", "units/rifle.toml: weapon.damage must be a positive number, got 0."),
        ("unit", "period", "delay", "units/rifle.toml [weapon] lacks period."),
        ("map", "[0.5, 0.5]", "[4, 1]", "allies.at must lie on the map of 3 by 2 cells, got [4.0, 1.0]."),
        ("map", "at = [0.5, 0.5]", "", "maps/small.toml [[allies]] lacks at. Expected the keys at, count,"),
        ("unit", '"terran"', '"human"', "units/rifle.toml: race must be one of protoss, terran, zerg, got"),
        ("unit", '["light"]', '["tiny"]', "attributes must be a list out of armoured, biological, light,"),
        ("unit", '["ground"]', '["sea"]', "weapon.targets must be a list out of air, ground, got ['sea']."),
        ("unit", "45.0", '"many"', "units/rifle.toml: health must be a positive number, got 'many'."),
        ("terrain", "..#", ".." + "." * 40, "inner must be rows of equal length of '.'"),
        ("terrain", "7f7f7f", "7f7f", "height must be 2 rows of 3 pairs of hexadecimal digits."),
        ("terrain", "..#", "..", "terrains/field.toml: inner must be rows of equal length of '.'"),
        ("terrain", "..#", "..x", "terrains/field.toml: inner must be rows of equal length of '.'"),
        ("terrain", "outer", "other", "terrains/field.toml lacks outer."),
        ("terrain", 'inner = "', 'likely = "right"\ninner = "', "likely must be 'inner' or 'outer', got 'right'"),
        ("terrain", "7f7f7f", "7f7f7g", "height must be 2 rows of 3 pairs of hexadecimal digits."),
        ("terrain", '"... ..#"', "3", "terrains/field.toml: inner must be a drawing of lines, got 3."),
        (
            "map",
            "= 60",
            "= ",
            "maps/small.toml must be written in TOML: Invalid value (at line 3, column 17).",
        ),
        ("map", '"rifle"', '"riffle"', "maps/small.toml: allies.unit: Unknown unit 'riffle'."),
        ("map", '"rifle"', "3", "maps/small.toml: allies.unit must be a name, got 3."),
        ("map", '"field"', '"feld"', "maps/small.toml: terrain: Unknown terrain 'feld'."),
        ("map", '"field"', "[]", "maps/small.toml: terrain must be a name, got []."),
        ("map", ALLIES, "", "maps/small.toml lacks allies. Expected the keys allies, ally_types,"),
        ("map", ALLIES, "allies = []\n", "allies must be tables [[allies]], one at least, got []."),
        ("map", ALLIES, "allies = 3\n", "allies must be tables [[allies]], one at least, got 3."),
        ("map", ALLIES, "allies = [3]\n", "maps/small.toml [[allies]] must be a table, got 3."),
        (
            "map",
            "[0.5, 1.5]",
            "[9.0, 1.5]",
            "attack_move_to must lie on the map of 3 by 2 cells, got [9.0,",
        ),
        (
            "map",
            "[0.5, 1.5]",
            "[[0.5, 1.5], [0, 9]]",
            "attack_move_to must lie on the map of 3 by 2 cells,",
        ),
        ("map", "[0.5, 1.5]", '"north"', "attack_move_to must be a point [x, y], got 'north'."),
        ("map", "= 60", '= 60\nhunt = "yes"', "hunt must be true or false, and false with attack_move_to,"),
        ("map", "= 60", "= 60\nhunt = true", "hunt must be true or false, and false with attack_move_to,"),
        ("map", "= 60", "= 60\nally_types = ['rifle', 'gun']", "ally_types must be a list out of rifle,"),
        ("map", "= 60", "= 60\nenemy_types = []", "enemy_types must name each of rifle once, got []."),
        ("unit", "health = 45.0", "health = nan", "health must be a positive number, got nan."),
        ("unit", "health = 45.0", "health = inf", "health must be a positive number, got inf."),
        ("unit", "health = 45.0", "health = true", "health must be a positive number, got True."),
        (
            "unit",
            "sight = 9.0",
            'sight = 9.0\nplane = "sea"',
            "plane must be one of above, air, ground, got",
        ),
        ("unit", "[weapon]", "weapon = 3\n[gun]", "units/rifle.toml: weapon must be a table, got 3."),
        ("unit", "wind_up", "bonus = 3\nwind_up", "units/rifle.toml: weapon.bonus must be a table, got 3."),
        (
            "unit",
            "wind_up",
            "bonus = { tiny = 1 }\nwind_up",
            "weapon.bonus must be a list out of armoured,",
        ),
        (
            "unit",
            "wind_up",
            "bonus = { light = 0 }\nwind_up",
            "weapon.bonus.light must be a positive number,",
        ),
        (
            "unit",
            "wind_up",
            "close = 3\nwind_up",
            "units/rifle.toml [weapon.close] must be a table, got 3.",
        ),
        (
            "unit",
            "wind_up",
            "line = { width = 1 }\nwind_up",
            "units/rifle.toml [weapon.line] lacks delay, ha",
        ),
        (
            "unit",
            "[weapon]",
            "[heal]\nrange = 4\n[weapon]",
            "units/rifle.toml [heal] lacks acquire_range, cost",
        ),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(files, kind, before, after, words):
    file, text = {
        "map": ("maps/small.toml", MAP), "unit": ("units/rifle.toml", UNIT), "terrain": ("terrains/field.toml", FIELD),
    }[kind]  # fmt: skip
    assert before in text
    files(file, text.replace(before, after))
    with pytest.raises(ValueError, match=re.escape(words)):
        load_scenario("small")


def test_a_map_larger_than_the_grid_is_refused(files):
    files("terrains/field.toml", FIELD.replace("... ..#", "." * 33))
    words = "terrains/field.toml: expected at most 32 rows of 32 cells, got 1 of 33."
    with pytest.raises(ValueError, match=re.escape(words)):
        load_scenario("small")


def test_where_only_one_reading_of_the_ground_is_possible_it_is_the_one(files):
    files("terrains/field.toml", 'outer = "... ..#"\nheight = "7f7f7f 000000"')
    assert load_scenario("small", "inner") == load_scenario("small", "outer")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("weights = [1.0]", "weights = [0.5]", "expected 1 weights with the sum 1, one a unit, got [0.5]."),
        ("weights = [1.0]", "weights = [0.5, 0.5]", "expected 1 weights with the sum 1, one a unit, got [0.5, 0.5]."),
        ("weights = [1.0]", 'weights = "even"', "random_teams.weights must be a positive number, got 'even'."),
        ("weights = [1.0]", "", "maps/small.toml [random_teams] lacks weights. Expected the keys n_agents,"),
        ("n_agents = 2", "n_agents = 0", "random_teams.n_agents must be a whole number of at least 1, got 0."),
        ('units = ["rifle"]', 'units = ["gun"]', "random_teams.units must be a list out of rifle, got ['gun']."),
        ("never_alone = []", 'never_alone = ["gun"]', "random_teams.never_alone must be a list out of rifle, got"),
        ("never_alone = []", 'never_alone = ["rifle"]', "never_alone must leave out one of rifle, got ['rifle']."),
        ("[random_teams]", "[[random_teams]]", "maps/small.toml [random_teams] must be a table, got [{"),
    ],
)
def test_random_teams_that_cannot_be_drawn_are_refused(files, before, after, words):
    files("maps/small.toml", RANDOM)
    assert load_scenario("small").random_teams.weights == (1.0,)
    load_scenario.cache_clear()
    files("maps/small.toml", RANDOM.replace(before, after))
    with pytest.raises(ValueError, match=re.escape(words)):
        load_scenario("small")


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match=r"Unknown unit 'wizard'\. Known: baneling, colossus, .*zergling\."):
        load_unit("wizard")


def test_a_terrain_says_which_reading_is_likely(files):
    files("terrains/field.toml", 'likely = "outer"\n' + FIELD)
    assert load_scenario("small") == load_scenario("small", "outer") != load_scenario("small", "inner")
