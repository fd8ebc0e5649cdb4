"""Who knows of which enemy, in SMACv2; whole battles are compared with its own code in tests/parity/test_smac.py."""

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.discovery import discover, forget, nth_of_others
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.state import CLOCK, NOBODY, UNIT

WORLD = BattleEnvironment("terran_5_vs_5").world
AGENTS, ENEMIES = slice(0, 5), slice(5, 10)


@pytest.fixture
def units():
    """Five agents in the west, out of sight of five enemies in the east, but for agent 1 and enemy 2."""
    units = np.zeros(10, dtype=UNIT)
    units["health"], units["finder"] = 45, NOBODY
    units["x"], units["y"] = np.repeat([2, 28], 5), np.tile([4, 8, 12, 16, 20], 2)
    units["x"][[1, 7]], units["y"][[1, 7]] = (14, 18), 2
    return units


def look(units, seed=1):
    clocks = np.zeros(1, dtype=CLOCK)
    clocks["dice"] = seed
    discover(units, WORLD, clocks[0])
    return units["known_by"][ENEMIES].astype(int).tolist()


def test_the_nth_of_others_counts_the_bits_that_are_not_set():
    assert [nth_of_others.py_func(0b01011, nth) for nth in range(3)] == [2, 4, 5]


def test_what_one_agent_sees_all_know_from_their_next_turn_on(units):
    first = look(units)
    assert [bits for enemy, bits in enumerate(first) if enemy != 2] == [0] * 4
    assert first[2] & 0b00010
    assert units["finder"][ENEMIES].tolist() == [NOBODY, NOBODY, 1, NOBODY, NOBODY]
    assert look(units)[2] == 0b11111


def test_who_has_his_turn_before_the_finder_does_not_know_yet(units):
    turns = {look(units.copy(), seed)[2] for seed in range(50)}
    assert 0b00010 in turns  # the finder was the last one
    assert 0b11111 in turns  # and the first one


def test_a_dead_enemy_is_forgotten_until_somebody_sees_where_it_was_seen_last(units):
    look(units)
    units["x_before"], units["y_before"] = units["x"], units["y"]
    units["health"][7], units["x"][7] = 0, 3
    forget(units, WORLD)
    assert (units["x"][7], units["known"][7], units["finder"][7]) == (18, 0, NOBODY)
    assert look(units)[2] & 0b00010
    units["x"][1] = 2
    forget(units, WORLD)
    assert look(units)[2] == 0


def test_what_a_dead_agent_found_is_forgotten(units):
    look(units)
    units["health"][1] = 0
    forget(units, WORLD)
    assert look(units) == [0] * 5


def test_battles_go_on_alike_whatever_chance_lets_agents_know():
    def positions(chance):
        env = BattleEnvironment("zerg_5_vs_5", num_envs=4, seed=3, prob_obs_enemy=chance)
        env.reset()
        for _ in range(12):
            view = env.step(
                torch.where(env.reset(torch.zeros(4, dtype=torch.bool))["agents", "action_mask"][..., 1], 1, 0)
            )
        return view["units"][..., :3]

    assert torch.equal(positions(0.0), positions(1.0))
