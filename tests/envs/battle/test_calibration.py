"""SMAC's own script against the simulator: what it wins tells how far the physics is from the game's.

``heuristic_ai`` of ``StarCraft2Env`` lets every agent attack the enemy that was nearest, wherever on the map, until it
is dead, and medivacs heal the nearest of the wounded. Samvelyan et al. (2019) give its win rates. The tests below hold
the two maps on which a crowd must surround few: there it wins next to nothing in the game.
"""

import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment

pytestmark = pytest.mark.slow


def heuristic_ai(name, battles=128, **options):
    """The share of battles that SMAC's script wins."""
    env = BattleEnvironment(name, battles, seed=1, **options)
    env.reset()
    units, rules, types, n = env._battles, env.world.rules, env.world.types, env.spec.n_agents
    target = np.full((battles, n), -1)
    going, won = torch.ones(battles, dtype=torch.bool), torch.zeros(battles, dtype=torch.bool)
    while going.any():
        x, y, health, kind = (units[field].copy() for field in ("x", "y", "health", "kind"))
        far = np.hypot(x[:, :n, None] - x[:, None], y[:, :n, None] - y[:, None])
        fair = (health[:, None, n:] > 0) & (env.world.damage[kind[:, :n, None], kind[:, None, n:]] > 0)
        held = (target >= 0) & np.take_along_axis(fair, target.clip(0)[..., None], 2)[..., 0]
        nearest = np.where(fair.any(-1), np.where(fair, far[:, :, n:], np.inf).argmin(-1), -1)
        target = np.where(held, target, nearest)
        wounded = (health[:, :n] > 0) & (health[:, :n] < types["health"][kind[:, :n]])
        wounded &= types["biological"][kind[:, :n]] > 0
        heals = types["heal_rate"][kind[:, :n]] > 0
        patient = np.where(wounded[:, None], far[:, :, :n], np.inf).argmin(-1)
        patient = np.where(wounded.any(-1, keepdims=True), patient, -1)
        slot = np.where(heals, patient, target)
        action = np.where(health[:, :n] <= 0, 0, np.where(slot >= 0, int(rules.first_attack) + slot, 1))
        env._views.action_mask[...] = True  # the script gives orders beyond the range, which the game carries out
        outcome = env.step(torch.from_numpy(action.astype(np.int64)))
        won |= outcome["info", "battle_won"][:, 0] & going
        going &= ~outcome["done"][:, 0]
        env.reset(~going)
        target[~going.numpy()] = -1
    return float(won.float().mean())


def test_a_crowd_of_zerglings_surrounds_zealots():
    assert heuristic_ai("corridor") < 0.3
    assert heuristic_ai("corridor", surround=False) > 0.5


def test_zerglings_reach_colossi_on_their_cliff_if_they_can_stand_at_its_edge():
    assert heuristic_ai("2c_vs_64zg") < 0.2  # by the outer cells
    assert heuristic_ai("2c_vs_64zg", pathing="inner") > 0.5


def test_equal_teams_are_about_even_for_it():
    assert 0.25 < heuristic_ai("bane_vs_bane") < 0.65
