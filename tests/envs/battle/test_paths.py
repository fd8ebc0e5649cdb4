"""Ways around walls."""

from itertools import pairwise

import numpy as np
import pytest

from qmix_lightning.envs.battle.engine import game_loop
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.paths import STRAIGHT, waypoints_of
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.state import HUNT, MOVE, NOBODY
from qmix_lightning.envs.battle.terrain import BLOCKED, fits, ground_of
from tests.envs.battle.scenes import Scene

AROUND = """
    ...........
    ...#####...
    .......#...
    a......#..A
    .......#...
    ...#####...
    ..........."""


def test_where_nothing_is_in_the_way_there_is_no_table():
    assert waypoints_of(ground_of(load_scenario("3m"))).shape == (0, 0)


def test_ways_turn_at_the_corners_of_walls():
    table = Scene(AROUND).env.world.waypoints

    def cell(x, y):
        return (8 + x) * 32 + 8 + y

    assert table[cell(0, 3), cell(2, 6)] == STRAIGHT  # past the wall
    # From the east into the pocket: along the north, and around both corners of the wall's end.
    way = [cell(9, 4), cell(8, 6), cell(2, 6), cell(2, 4)]
    for here, there in pairwise(way):
        assert table[here, cell(5, 3)] == there
    assert table[cell(2, 4), cell(5, 3)] == STRAIGHT


@pytest.mark.parametrize("unit", ["marine", "stalker"])  # bodies of 0.375 and 0.5 cells
def test_everybody_gets_around_a_wall_by_the_shorter_way_and_without_delay(unit):
    scene = Scene(AROUND, A=unit, goal=(8 + 5.5, 8 + 3.5))
    scene["a"]["health"] = 0
    scene.put("A", 9.5, 4.0)  # a little nearer to the northern way
    places = []

    def arrived():
        places.append(scene.at("A"))
        return np.hypot(scene.at("A")[0] - 5.5, scene.at("A")[1] - 3.5) < 0.01

    speed = (2.9531 if unit == "stalker" else 2.25) / 16
    # By the middles of the cells before the corners, (8.5, 6.5), (2.5, 6.5) and (2.5, 4.5), which it need not touch.
    way = np.hypot(1, 2.5) + 6 + 2 + np.hypot(3, 1)
    assert scene.until(arrived) == pytest.approx(way / speed, rel=0.05)
    x, y = np.array(places).T
    assert x.min() > 2
    assert y.min() > 3.4
    assert y.max() < 7


def test_who_shoots_does_so_over_a_wall_and_who_strikes_walks_around():
    marine, zealot = (Scene(AROUND, a=unit) for unit in ("marine", "zealot"))
    for scene in (marine, zealot):
        scene.pacify("A")
        scene.put("a", 5.5, 3.5)  # a gap of 4.25 for a marine
        scene.attack("a", "A")
    assert marine.until(lambda: marine["A"]["health"] < 45) == 2
    assert zealot.until(lambda: zealot["A"]["health"] < 45) > 60
    assert zealot.gap("a", "A") <= 0.1


def test_a_goal_that_cannot_be_reached_is_approached():
    scene = Scene(
        """
        .......
        ..###..
        ..#.#.A
        ..###..
        .......""",
        goal=(8 + 3.5, 8 + 2.5),
    )
    scene.loops(120)
    resting = scene.at("A")
    scene.loops(30)
    assert np.hypot(resting[0] - 3.5, resting[1] - 2.5) < 3.2
    assert scene.at("A") == pytest.approx(resting, abs=0.2)


WALLED = ["corridor", "so_many_baneling", "2c_vs_64zg", "2s_vs_1sc"]


@pytest.mark.parametrize("pathing", ["inner", "outer"])
@pytest.mark.parametrize("name", WALLED)
def test_from_anywhere_on_a_map_a_way_leads_to_anywhere_else(name, pathing):
    ground = ground_of(load_scenario(name, pathing))
    table = waypoints_of(ground)
    walkable = np.flatnonzero(ground.ravel() != BLOCKED)
    start, goal = np.random.default_rng(0).choice(walkable, (2, 500))
    for _ in range(20):
        via = table[start, goal]
        assert (ground.ravel()[via[via != STRAIGHT]] != BLOCKED).all()
        start = np.where(via == STRAIGHT, start, via)
    assert (table[start, goal] == STRAIGHT).all()


@pytest.mark.parametrize(
    ("name", "unit"), [("so_many_baneling", "zealot"), ("2s_vs_1sc", "stalker"), ("corridor", "zergling")]
)
def test_nobody_sticks_on_the_way_through_a_map_or_leaves_its_ground(name, unit):
    env = BattleEnvironment(name)
    env.reset()
    units, kinds = env._battles[0], [known.name for known in load_scenario(name).unit_types]
    body = env.world.types[kinds.index(unit)]
    speed, inner = float(body["speed"]), float(body["inner_radius"])
    walkable = np.argwhere(env.world.ground != BLOCKED)
    generator, walker = np.random.default_rng(1), units[0]
    for _ in range(12):
        (x, y), (goal_x, goal_y) = generator.choice(walkable, 2) + 0.5
        units["health"] = 0
        walker["health"], walker["kind"], walker["target"], walker["order"] = 45, kinds.index(unit), NOBODY, MOVE
        walker["x"], walker["y"], walker["goal_x"], walker["goal_y"] = x, y, goal_x, goal_y
        loops = 0
        while np.hypot(walker["x"] - goal_x, walker["y"] - goal_y) > 0.05:
            game_loop(units, env.world, env._laws[0], env._clocks[0])
            loops += 1
            assert loops < 60 / speed  # the longest way is one of fifty cells
            assert fits(env.world.ground, float(walker["x"]), float(walker["y"]), inner)


def test_hunters_walk_around_the_cliff_to_the_colossi():
    env = BattleEnvironment("2c_vs_64zg", seed=1)
    env.reset()
    units = env._battles[0]
    assert (units["order"][2:] == HUNT).all()
    units["health"][:2] = 1e6
    for _ in range(30 * 8):
        game_loop(units, env.world, env._laws[0], env._clocks[0])
    assert all(fits(env.world.ground, float(unit["x"]), float(unit["y"]), 0.375) for unit in units[2:])
    near = np.hypot(units["x"][2:] - units["x"][0], units["y"][2:] - units["y"][0]) < 1 + 0.375 + 0.2
    near |= np.hypot(units["x"][2:] - units["x"][1], units["y"][2:] - units["y"][1]) < 1 + 0.375 + 0.2
    assert near.sum() > 10
