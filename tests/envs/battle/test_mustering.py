"""SMACv2's draws: teams by weighted types, and starts where one side is surrounded or both mirror each other."""

import numpy as np
import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.scenario import load_scenario

NUMBER = 400


def mustered(name, num_envs=NUMBER, **options):
    """Names of the types, units of many battles, and how many of each are agents."""
    scenario = load_scenario(name)
    env = BattleEnvironment(name, num_envs=num_envs, seed=2, spawn_jitter=0.0, enemy_order="creation", **options)
    env.reset()
    return np.array([unit.name for unit in scenario.unit_types]), env._battles, scenario.n_agents


@pytest.fixture(scope="module")
def zerg():
    return mustered("zerg_10_vs_10")


@pytest.mark.parametrize("name", ["terran_5_vs_5", "protoss_5_vs_5"])
def test_types_are_drawn_by_their_weights(name):
    names, units, n_agents = mustered(name)
    drawn = names[units["kind"][:, :n_agents]]
    for kind, weight in zip(load_scenario(name).random_teams.units, (0.45, 0.45, 0.1), strict=True):
        # 2000 draws: a standard error of 0.011 at the most.
        assert (drawn == kind.name).mean() == pytest.approx(weight, abs=0.045)


def test_the_enemies_are_the_same_as_the_agents(zerg):
    _, units, n_agents = zerg
    assert (np.sort(units["kind"][:, :n_agents]) == np.sort(units["kind"][:, n_agents:])).all()


def test_enemies_beyond_the_agents_number_are_drawn_too_and_not_of_medivacs_alone():
    names, units, n_agents = mustered("terran_10_vs_11")
    extra = names[units["kind"][:, 2 * n_agents]]
    assert (np.sort(units["kind"][:, :n_agents]) == np.sort(units["kind"][:, n_agents : 2 * n_agents])).all()
    assert set(extra) == {"marine", "marauder"}
    assert (extra == "marine").mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "useless"), [("terran_5_vs_5", "medivac"), ("zerg_5_vs_5", "baneling")])
def test_no_team_is_of_those_alone_that_win_no_battle(name, useless):
    teams = load_scenario(name).random_teams
    assert [unit.name for unit in teams.never_alone] == [useless]
    names, units, _ = mustered(name)
    assert (names[units["kind"]] != useless).any(1).all()


def middle(units):
    """In which battles everybody of a side stands close to the middle of the map."""
    return (np.hypot(units["x"] - 16, units["y"] - 16) < 4).all(1)


def test_half_of_the_battles_begin_surrounded(zerg):
    _, units, n_agents = zerg
    assert middle(units[:, :n_agents]).mean() == pytest.approx(0.5, abs=0.1)
    assert not middle(units[:, n_agents:]).all()


def test_the_surrounded_stand_in_the_middle_and_the_others_on_one_to_four_diagonals(zerg):
    _, units, n_agents = zerg
    enemies = units[middle(units[:, :n_agents])][:, n_agents:]
    east, north = enemies["x"] - 16, enemies["y"] - 16
    # Groups are created at one point of a diagonal, 2 to 16 cells from the middle on each axis, and spread from there.
    assert np.abs(np.abs(east) - np.abs(north)).mean() < 1
    assert np.median(np.abs(east)) == pytest.approx(9, abs=1.5)
    quarters = [len(set(zip(x > 0, y > 0, strict=True))) for x, y in zip(east, north, strict=True)]
    shares = np.bincount(quarters, minlength=5)[1:] / len(quarters)
    assert shares == pytest.approx(0.25, abs=0.13)


def test_the_others_face_their_mirror_image(zerg):
    _, units, n_agents = zerg
    rest = units[~middle(units[:, :n_agents])]
    agents, enemies = rest[:, :n_agents], rest[:, n_agents:]
    # Agents up to 15 of 32 cells from the west, displaced only where somebody was in their place.
    assert np.quantile(agents["x"], 0.95) < 15
    assert agents["x"].mean() == pytest.approx(7.5, abs=0.5)
    assert agents["y"].mean() == pytest.approx(16, abs=0.7)
    dx = 32 - enemies["x"][:, :, None] - agents["x"][:, None]
    dy = enemies["y"][:, :, None] - agents["y"][:, None]
    nearest = np.hypot(dx, dy).min(2)
    assert np.median(nearest) < 0.25  # they have walked for a loop
    assert np.quantile(nearest, 0.9) < 0.7


def test_agents_are_counted_by_type_and_place(zerg):
    _, units, n_agents = zerg
    kind, x = units["kind"][:, :n_agents].astype(int), units["x"][:, :n_agents]
    after = np.diff(kind) > 0
    assert (after | ((np.diff(kind) == 0) & (np.diff(x) > -0.1))).all()  # who was in the way has been pushed since


def test_nobody_starts_on_anybody_else_or_beyond_the_map(zerg):
    _, units, _ = zerg
    assert (units["x"] >= 0.375).all()
    assert (units["x"] <= 32 - 0.375).all()
    assert (units["y"] >= 0.375).all()
    assert (units["y"] <= 32 - 0.375).all()
    apart = np.hypot(*(units[axis][:, :, None] - units[axis][:, None] for axis in "xy")) + 9 * np.eye(units.shape[1])
    assert apart.min() > 0.5


def test_every_battle_is_drawn_anew_and_every_seed_draws_its_own():
    env = BattleEnvironment("protoss_5_vs_5", num_envs=4, seed=3)
    starts = []
    for seed in (3, None, 4, 3):
        if seed is not None:
            env.seed(seed)
        env.reset()
        starts.append(env._battles.copy())
    assert (starts[0]["x"] == starts[3]["x"]).all()
    assert (starts[0]["kind"] == starts[3]["kind"]).all()
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (starts[one]["x"] != starts[two]["x"]).any(1).all()
