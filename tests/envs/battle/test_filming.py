import numpy as np
import pytest
import torch

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.filming import film
from qmix_lightning.envs.battle.scenario import map_names
from qmix_lightning.envs.battle.viewer.drawing import BattlePainter
from qmix_lightning.envs.battle.viewer.html import html_of
from qmix_lightning.envs.battle.viewer.recording import shown
from qmix_lightning.envs.battle.viewer.silhouettes import SILHOUETTES
from qmix_lightning.exploration.random_policy import RandomPolicy
from qmix_lightning.spec import ACTION_MASK, OBSERVATION


class Remembering:
    """Plays at random, and remembers what it was shown and what it did."""

    def __init__(self, seed, agents):
        self.policy, self.agents, self.seen, self.actions = RandomPolicy(seed), agents, [], []

    def initial_memory(self, battles):
        return torch.zeros(battles, self.agents, 1)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        assert env_steps is None, "played greedily"
        assert (memory == len(self.actions)).all()
        expected = self.actions[-1] if self.actions else torch.full_like(last_action, -1)
        assert torch.equal(last_action, expected)
        action, _ = self.policy.act(observation, action_mask, last_action, memory)
        self.seen.append((observation.clone(), action_mask.clone()))
        self.actions.append(action)
        return action, memory + 1


@pytest.mark.parametrize("name", ["3m", "8m_vs_9m", "MMM2", "bane_vs_bane", "protoss_5_vs_5"])
def test_a_film_shows_the_battle_as_it_is_played_without_one_to_the_bit(name):
    env = BattleEnvironment(name, seed=3)
    policy = Remembering(3, env.spec.n_agents)
    battle = film(env, policy)
    again = BattleEnvironment(name, seed=3)
    view, steps = again.reset(), battle.step_loops
    assert np.array_equal(battle.frames[0], shown(again.units[0]))
    for step, action in enumerate(policy.actions):
        assert torch.equal(view[OBSERVATION], policy.seen[step][0])
        assert torch.equal(view[ACTION_MASK], policy.seen[step][1])
        view = again.step(action)
        assert np.array_equal(battle.frames[(step + 1) * steps], shown(again.units[0]))
        assert battle.rewards[step] == view["reward"].item()
    assert view["done"].item()
    assert battle.steps == len(policy.actions)


@pytest.mark.parametrize("name", map_names())
def test_every_map_can_be_filmed_and_drawn(name):
    battle = film(BattleEnvironment(name, seed=1), RandomPolicy(1))
    assert {kind.name for kind in battle.kinds} <= set(SILHOUETTES)
    picture = BattlePainter(battle, width=320, detail=1).paint(battle.loops // 2)
    assert len(picture.getcolors(1 << 20)) > 20
    assert html_of([battle]).startswith("<!doctype html>")


def test_a_step_of_other_length_is_filmed_as_long():
    env = BattleEnvironment("3m", seed=1, step_mul=4)
    battle = film(env, Attacking())
    assert battle.step_loops == 4
    assert battle.loops == 4 * battle.steps


def test_a_trace_is_what_a_step_leads_to_and_changes_nothing():
    env, other = BattleEnvironment("5m_vs_6m", 3, seed=1), BattleEnvironment("5m_vs_6m", 3, seed=1)
    view, _ = env.reset(), other.reset()
    policy = RandomPolicy(1)
    for _ in range(20):
        action, _ = policy.act(view[OBSERVATION], view[ACTION_MASK], view[OBSERVATION], torch.zeros(3, 5, 0))
        loops = env.trace(action)
        assert loops.shape[1:] == (3, 11)
        view = env.step(action)
        other.step(action)
        assert np.array_equal(loops[-1], env.units)
        assert np.array_equal(env.units, other.units)


def test_units_can_be_looked_at_but_not_moved():
    env = BattleEnvironment("3m", seed=1)
    env.reset()
    with pytest.raises(ValueError, match="read-only"):
        env.units["x"] = 0


class Attacking:
    """Attacks the first enemy in reach, else walks east."""

    def initial_memory(self, battles):
        return torch.zeros(battles, 3, 0)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        liking = torch.tensor([1, 2, 0, 0, 3, 0, 9, 8, 7])
        return (liking * action_mask).argmax(-1), memory


def test_films_end_as_battles_do():
    outcomes = {film(env, Attacking()).outcome for env in [BattleEnvironment("3m", seed=2)] for _ in range(20)}
    assert outcomes == {"won", "lost"}

    class Stopping(Attacking):
        def act(self, observation, action_mask, last_action, memory, **kwargs):
            return action_mask.int().argmax(-1), memory

    lost = film(BattleEnvironment("3m", seed=2), Stopping())
    assert lost.outcome == "lost"
    assert (lost.frames["health"][-1, :3] == 0).all()


def test_a_film_of_the_next_battle_shows_another():
    env = BattleEnvironment("3m", seed=2)
    assert not np.array_equal(film(env, Attacking()).frames[0]["x"], film(env, Attacking()).frames[0]["x"])


def test_several_battles_at_once_are_refused():
    with pytest.raises(ValueError, match="Expected an environment of one battle to film, got one of 2"):
        film(BattleEnvironment("3m", 2), Attacking())
