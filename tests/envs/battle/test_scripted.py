"""Scripted teams: what they read of observations is where the units are, and what they do is what they are for."""

import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.observation import show
from qmix_lightning.envs.battle.scenario import load_scenario, map_names
from qmix_lightning.envs.battle.scripted.registry import SCRIPTS, scripted_policy
from qmix_lightning.envs.battle.scripted.sight import Eyes
from qmix_lightning.envs.registry import make
from qmix_lightning.rollout.scoring import score
from qmix_lightning.spec import NO_ACTION, Policy
from tests.envs.battle.scenes import Scene, arena


def play_some(name, script, steps, battles=2, **options):
    """The environment after some steps, and what the team saw and did last."""
    env = make(f"battle/{name}", num_envs=battles, seed=3, **options)
    policy = scripted_policy(script, env.spec, **options)
    view, memory = env.reset(), policy.initial_memory(battles)
    last = torch.full((battles, env.spec.n_agents), NO_ACTION)
    for _ in range(steps):
        action, memory = policy.act(view["agents", "observation"], view["agents", "action_mask"], last, memory)
        view, last = env.step(action), action
    return env, view


@pytest.mark.parametrize("name", map_names())
def test_every_script_plays_legally_on_every_map(name):
    for script in SCRIPTS:
        play_some(name, script, 12)  # an illegal action is a ValueError


@pytest.mark.parametrize("name", ["3m", "MMM2", "3s5z", "2s_vs_1sc", "1c3s5z", "bane_vs_bane"])
@pytest.mark.parametrize(
    "options", [{}, {"obs_last_action": True, "obs_pathing_grid": True, "obs_timestep_number": True}]
)
def test_what_is_read_is_where_the_units_are(name, options):
    env, view = play_some(name, "random", 9, **options)
    sight = Eyes(load_scenario(name), options).look(view["agents", "observation"], view["agents", "action_mask"])
    n = env.spec.n_agents
    x, y, kind = (torch.from_numpy(env._battles[field].astype("float32")) for field in ("x", "y", "kind"))
    place, alive = torch.stack([x, y], -1), torch.from_numpy(env._battles["health"] > 0)
    apart = place[:, None] - place[:, :n, None]
    assert sight.enemy_seen.any()
    assert torch.allclose(sight.enemy_at, apart[:, :, n:] * sight.enemy_seen[..., None], atol=1e-4)
    assert torch.allclose(sight.ally_at, apart[:, :, :n] * sight.ally_seen[..., None], atol=1e-4)
    assert torch.equal(sight.alive, alive[:, :n])
    assert torch.equal(sight.kind[sight.alive], kind[:, :n].long()[sight.alive])
    seen = sight.enemy_seen.any(1)
    assert torch.equal(sight.enemy_kind[seen], kind[:, n:].long()[seen])
    points = torch.from_numpy(env._battles["health"] + env._battles["shield"])[:, n:]
    assert torch.allclose(sight.enemy_strength[seen], points[seen], atol=1e-3)


def decide(scene, drawing, script, **types):
    """What the agents a, b and c of a scene do, as actions."""
    scenario = arena(drawing, **types)
    policy = scripted_policy(script, scene.env.spec, scenario=scenario)
    view = scene.env.reset(torch.tensor([False]))["agents"]
    show(scene.env._battles, scene.env.world, scene.env._clocks, scene.env._views, 0, 1)
    action, _ = policy.act(
        view["observation"], view["action_mask"], torch.full((1, 3), NO_ACTION), policy.initial_memory(1)
    )
    return action[0].tolist()


def test_closest_attacks_the_nearest():
    drawing = "a..A.B"
    assert decide(Scene(drawing), drawing, "closest")[0] == 6


def test_focus_attacks_the_weakest_in_reach_together_and_nobody_twice_over():
    drawing = "a....\nb..AB\nc...."
    scene = Scene(drawing)
    assert decide(scene, drawing, "focus") in ([6, 6, 6], [7, 7, 7])
    scene["B"]["health"] = 10  # two hits
    assert decide(scene, drawing, "focus") == [7, 7, 6]


def test_a_medivac_heals_the_weakest_of_the_wounded():
    env = BattleEnvironment("MMM", seed=1)
    env.reset()
    policy, health = scripted_policy("closest", env.spec), env._battles[0]["health"]
    nothing_yet = torch.full((1, 10), NO_ACTION)
    for marauder, marine, weakest in ((100, 20, 5), (50, 20, 0), (125, 20, 5)):
        health[0], health[5] = marauder, marine
        show(env._battles, env.world, env._clocks, env._views, 0, 1)
        view = env.reset(torch.tensor([False]))["agents"]
        action, _ = policy.act(view["observation"], view["action_mask"], nothing_yet, policy.initial_memory(1))
        assert action[0, 9] == 6 + weakest


def test_who_sees_nobody_walks_to_where_the_enemies_start_and_along_walls():
    scenario = load_scenario("2s_vs_1sc")
    eyes = Eyes(scenario, {})
    assert eyes.heading is not None
    assert abs(eyes.heading[0]) < 0.5 < eyes.heading[1]  # north
    env, _ = play_some("2s_vs_1sc", "focus", 6)
    assert (env._battles["y"][:, :2] > 14).all()


def test_hit_and_run_beats_zealots_with_stalkers_that_stand_and_die():
    env = BattleEnvironment("3s_vs_3z", num_envs=64, seed=1)
    running = score(env, scripted_policy("hit-and-run", env.spec))
    env.seed(1)
    standing = score(env, scripted_policy("focus", env.spec))
    assert running.won.float().mean() > 0.5
    assert standing.won.float().mean() < 0.2


def test_many_battles_are_as_many_single_ones():
    env = BattleEnvironment("MMM", num_envs=3, seed=5)
    together = score(env, scripted_policy("focus", env.spec))
    for number in range(3):
        alone = BattleEnvironment("MMM", seed=5, first=number)
        outcome = score(alone, scripted_policy("focus", alone.spec))
        assert outcome.returns[0] == together.returns[number]
        assert outcome.length[0] == together.length[number]


def test_scripts_are_policies():
    spec = BattleEnvironment("3m").spec
    assert all(isinstance(scripted_policy(name, spec), Policy) for name in SCRIPTS)


def test_an_unknown_team_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match=r"no scripted team 'focused'\. Did you mean 'focus'\? Known are random, stop"):
        scripted_policy("focused", BattleEnvironment("3m").spec)


def test_options_that_the_environment_was_not_made_with_are_refused():
    spec = BattleEnvironment("3m", obs_last_action=True).spec
    with pytest.raises(
        ValueError, match=r"see 30 numbers and have 9 actions, but its spec says 48 and 9\. Pass the options"
    ):
        scripted_policy("focus", spec)
