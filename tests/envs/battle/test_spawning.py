import numpy as np
import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.movement import OVERLAP_TOLERANCE
from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.spawning import lineup_of
from qmix_lightning.envs.battle.world import world_of

MARINES = ["3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m"]

WALKED = 2 * 0.140625  # what the enemies walk before the first observation


def started(name="3m", num_envs=16, **options):
    env = BattleEnvironment(name, num_envs=num_envs, **options)
    env.reset()
    return env, env._battles


def gaps(units):
    place = np.stack([units["x"], units["y"]], -1).astype(float)
    far = np.hypot(*(place[..., None, :, :] - place[..., :, None, :]).transpose(3, 0, 1, 2))
    return far + 9 * np.eye(far.shape[-1])


@pytest.mark.parametrize("name", MARINES)
def test_a_squad_stands_in_hexagonal_rings_around_its_point(name):
    lineup = lineup_of(scenario := load_scenario(name), world_of(scenario, SmacOptions()), "creation")
    assert (lineup.x[0, 0], lineup.y[0, 0]) == (9.0, 16.0)
    agents = lineup.x[0, : scenario.n_agents] + 1j * lineup.y[0, : scenario.n_agents]
    far = np.abs(agents[:, None] - agents[None]) + 9 * np.eye(len(agents))
    assert far.min() == pytest.approx(0.75)
    assert np.allclose(far.min(1), 0.75)
    rings = np.abs(agents - agents[0])
    assert (np.diff(rings) > -1e-9).all()
    assert (rings[1:7] < 0.76).all()
    assert rings[-1] < 0.75 * np.sqrt(len(agents))


def test_the_seventh_marine_completes_the_first_ring():
    lineup = lineup_of(scenario := load_scenario("8m"), world_of(scenario, SmacOptions()), "creation")
    angles = [
        np.degrees(np.arctan2(y - 16, x - 9)) % 360 for x, y in zip(lineup.x[0, 1:7], lineup.y[0, 1:7], strict=True)
    ]
    assert angles == pytest.approx([0, 60, 120, 180, 240, 300])
    assert np.hypot(lineup.x[0, 7] - 9, lineup.y[0, 7] - 16) == pytest.approx(0.75 * np.sqrt(3))


@pytest.mark.parametrize("name", MARINES)
def test_everyone_starts_clear_of_overlap_and_in_order(name):
    _, units = started(name, num_envs=32)
    n_agents = load_scenario(name).n_agents
    assert (gaps(units[:, :n_agents]) >= 0.75 - OVERLAP_TOLERANCE).all()
    assert (units["health"] == 45).all()
    x, y = units["x"][:, :n_agents], units["y"][:, :n_agents]
    assert ((np.diff(x) > 0) | ((np.diff(x) == 0) & (np.diff(y) > 0))).all()


def test_the_jitter_displaces_everyone_a_little_and_differently_each_time():
    _, units = started("3m", num_envs=64)
    calm, _ = started("3m", num_envs=1, spawn_jitter=0.0)
    assert np.allclose(calm._battles["x"][0, :3], [9.0, 9.375, 9.75])
    assert np.allclose(calm._battles["y"][0, :3], [16.0, 16 + 0.75 * np.sqrt(3) / 2, 16.0])
    assert units["x"][:, 0].std() > 0.05
    assert np.abs(units["x"][:, :3].mean((0, 1)) - 9.375) < 0.1
    assert np.abs(units["y"][:, :3].mean((0, 1)) - 16.217) < 0.1


def test_without_jitter_every_battle_starts_alike():
    _, units = started("8m", spawn_jitter=0.0, enemy_order="creation")
    assert (units["x"] == units["x"][0]).all()
    assert (units["y"] == units["y"][0]).all()


def test_enemies_have_walked_for_two_loops_before_the_first_observation():
    _, units = started("3m", num_envs=1, spawn_jitter=0.0, enemy_order="sorted")
    assert units["x"][0, 3:].min() == pytest.approx(23 - WALKED, abs=0.01)


def test_enemies_are_numbered_at_random_as_created_or_by_place():
    _, units = started(num_envs=256, spawn_jitter=0.0, enemy_order="random")
    orders = {tuple(row) for row in units["x"][:, 3:].argsort(1).tolist()}
    assert len(orders) == 6
    first = (units["x"][:, 3:].argmin(1)[:, None] == np.arange(3)).mean(0)
    assert np.allclose(first, 1 / 3, atol=0.1)
    _, created = started(num_envs=4, spawn_jitter=0.0, enemy_order="creation")
    assert (created["x"][:, 3:].argsort(1) == [0, 2, 1]).all()  # east of the point before north-east of it
    _, ordered = started(num_envs=64, enemy_order="sorted")
    assert (np.diff(ordered["x"][:, 3:]) > -0.02).all()


def test_nothing_of_the_last_battle_is_left():
    env, units = started(num_envs=2, seed=1)
    fresh = units.copy()
    for name in units.dtype.names:
        units[name] = 1
    env.seed(1)
    env.reset()
    for name in fresh.dtype.names:
        assert (units[name] == fresh[name]).all(), name


def test_the_zealot_of_2m_vs_1z_goes_to_a_point_between_the_two_marines():
    _, units = started("2m_vs_1z", num_envs=300)
    goals = units["goal_x"][:, 2]
    assert (units["goal_y"][:, 2] == 12).all()
    assert 13 <= goals.min() < 13.2
    assert 18.8 < goals.max() <= 19
    assert goals.mean() == pytest.approx(16, abs=0.4)  # of a standard error of 0.1
    assert goals.std() == pytest.approx(6 / np.sqrt(12), abs=0.2)


@pytest.mark.parametrize(
    ("name", "goal"), [("2s3z", (9, 16)), ("MMM", (9, 16)), ("corridor", (4.47, 4.3298)), ("so_many_baneling", None)]
)
def test_everybody_else_goes_to_one_point(name, goal):
    _, units = started(name, num_envs=2)
    scenario = load_scenario(name)
    enemies = units[:, scenario.n_agents :]
    fighters = np.array([unit.name != "medivac" for unit in scenario.unit_types])[enemies["kind"]]
    goal = goal or scenario.attack_move_to[0]
    assert np.allclose(enemies["goal_x"][fighters], goal[0])
    assert np.allclose(enemies["goal_y"][fighters], goal[1])
    assert (enemies["order"][fighters] == 3).all()
