import re
from dataclasses import replace

import pytest
import torch
from numba import njit

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.matrix import TwoStepGame
from qmix_lightning.functional.stages import stage_of
from qmix_lightning.spec import ACTION_MASK, MASK, OBSERVATION, STATE
from tests.fakes import CountingEnv, TamperedEnv


def put(key, change):
    def tamper(entries):
        return entries.set(key, change(entries[key]))

    return tamper


def broken_for(env, **declared):
    for name, value in declared.items():
        setattr(env, name, value)
    return env


def going_on(outcome):
    outcome["done"].zero_()
    outcome["terminated"].zero_()
    return outcome


def drifting_seed():
    calls = iter(range(9))
    return lambda seed: seed + next(calls)


def counted():
    return CountingEnv(num_envs=4, limit=5)


class Remembering(CountingEnv):
    """Counts, and can tell from battle, episode and step alone what was seen."""

    snapshot_keys = ("counts",)

    def _look(self):
        view = super()._look()
        return view.set("counts", view[STATE].clone())

    def reset(self, which=None):
        super().reset(which)
        return self._memory.select("agents", "state", "counts")

    def observe(self, episodes):
        padded = torch.zeros_like(episodes[MASK])
        padded[:, 1:] = ~episodes[MASK][:, :-1]
        state = episodes["counts"].masked_fill(padded, 0.0)
        n_agents, n_actions = self.spec.n_agents, self.spec.n_actions
        agent = torch.arange(n_agents).expand(*state.shape[:2], n_agents)
        seen = [state[..., 1:2].expand_as(agent), state[..., 2:].expand_as(agent), agent.where(~padded, 0).float()]
        illegal = 1 + (state[..., 2:].long() + agent) % (n_actions - 1)
        legal = torch.ones(*agent.shape, n_actions, dtype=torch.bool).scatter_(-1, illegal[..., None], False)
        legal[padded[..., 0]] = torch.arange(n_actions) == 0
        return episodes.copy().update({OBSERVATION: torch.stack(seen, -1), ACTION_MASK: legal, STATE: state})


def test_a_faithful_environment_passes():
    check_env(counted())
    check_env(TamperedEnv(counted()))
    check_env(Remembering(num_envs=4, limit=5))
    check_env(TwoStepGame(num_envs=2))
    check_env(CountingEnv(num_envs=1, n_agents=1, n_actions=2, limit=1))


class Forgetful(CountingEnv):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "step": torch.zeros(self.num_envs, dtype=torch.int64)})


class Lending(CountingEnv):
    def state_dict(self):
        return {"seed": self._seed, "episode": self._episode, "step": self._step}


class Pickling(CountingEnv):
    def state_dict(self):
        return {**super().state_dict(), "task": self.spec}


class Blind(Remembering):
    def observe(self, episodes):
        seen = super().observe(episodes)
        seen[STATE][3, 2] += 1
        return seen


class PaddingIllegal(Remembering):
    def observe(self, episodes):
        seen = super().observe(episodes)
        seen[ACTION_MASK][:, -1, :, 0] = False
        return seen


class Meddling(Remembering):
    def observe(self, episodes):
        self._step += 1
        self._look()
        return super().observe(episodes)


class Waking(CountingEnv):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.spec = replace(self.spec, no_op_is_final=True)

    def _look(self):
        view = super()._look()
        view[ACTION_MASK][:, 2, 1:] &= (self._step != 1)[:, None]
        return view


SECOND_ONLY = torch.tensor([False, True, False, False])
BROKEN = {
    "spec": (lambda: broken_for(counted(), spec=None), "(spec): expected a TaskSpec, got None"),
    "num_envs": (lambda: broken_for(counted(), num_envs=0), "(num_envs): expected an integer of at least 1, got 0"),
    "info_keys": (lambda: broken_for(counted(), info_keys="won"), "(info_keys): expected a tuple of names, got 'won'"),
    "undeclared info": (
        lambda: broken_for(counted(), info_keys=("battle_won",)),
        "(info_keys): expected ['battle_won'], got ['battle_won', 'dead_allies']",
    ),
    "missing info": (
        lambda: broken_for(counted(), info_keys=("battle_won", "dead_allies", "crashed")),
        "(('info', 'crashed') of step()): expected a tensor, got none",
    ),
    "missing entry": (
        lambda: TamperedEnv(counted(), viewed=lambda view: view.exclude(STATE)),
        "('state' of reset()): expected a tensor, got none",
    ),
    "observation size": (
        lambda: broken_for(counted(), spec=replace(counted().spec, observation_size=4)),
        "(('agents', 'observation') of reset()): expected shape [4, 3, 4], got [4, 3, 3]",
    ),
    "mask dtype": (
        lambda: TamperedEnv(counted(), viewed=put(ACTION_MASK, lambda mask: mask.float())),
        "(('agents', 'action_mask') of reset()): expected torch.bool, got torch.float32",
    ),
    "no legal action": (
        lambda: TamperedEnv(counted(), viewed=put(ACTION_MASK, lambda mask: mask & ~SECOND_ONLY[:, None, None])),
        "(legal actions of reset()): expected at least one for each agent, got none for agent 0 of episode 1",
    ),
    "no-op that was not final": (
        lambda: Waking(num_envs=4, limit=5),
        "(no_op_is_final): expected nothing but action 0 for who could do nothing else before, got more for agent 2 of",
    ),
    "gradient": (
        lambda: TamperedEnv(counted(), viewed=put(STATE, lambda state: state.requires_grad_())),
        "('state' of reset()): expected no gradient",
    ),
    "reward shape": (
        lambda: TamperedEnv(counted(), stepped=put("reward", lambda reward: reward[:, 0])),
        "('reward' of step()): expected shape [4, 1], got [4]",
    ),
    "reward not finite": (
        lambda: TamperedEnv(counted(), stepped=put("reward", lambda reward: reward / 0)),
        "('reward' of step()): expected finite numbers, got infinity or no number",
    ),
    "terminated, not done": (
        lambda: TamperedEnv(counted(), stepped=put("terminated", lambda terminated: terminated | SECOND_ONLY[:, None])),
        "(terminated): expected done wherever terminated, got terminated but not done in episode 1",
    ),
    "no limit": (
        lambda: TamperedEnv(counted(), stepped=going_on),
        "(limit): expected done after 5 steps, got episode 0 going on",
    ),
    "reset of all": (
        lambda: TamperedEnv(counted(), which=lambda which: None),
        "(reset(which) leaves the others as they are): expected the same ('agents', 'observation') as before",
    ),
    "seed": (
        lambda: TamperedEnv(counted(), seed=drifting_seed()),
        "(same seed, same episodes): expected equal",
    ),
    "what it forgets": (
        lambda: Forgetful(num_envs=4, limit=5),
        "(load_state_dict rewinds): expected equal ('agents', 'observation') in call 0 of two runs, got different ones",
    ),
    "state overwritten": (
        lambda: Lending(num_envs=4, limit=5),
        "(load_state_dict rewinds): expected equal ('agents', 'observation') in call 0 of two runs, got different ones",
    ),
    "state of objects": (
        lambda: Pickling(num_envs=4, limit=5),
        "(state_dict): expected numbers, strings, tensors, lists and dictionaries, got Weights only load failed",
    ),
    "snapshot_keys": (
        lambda: broken_for(counted(), snapshot_keys="units"),
        "(snapshot_keys): expected a tuple of names, got 'units'",
    ),
    "missing snapshot": (
        lambda: broken_for(counted(), snapshot_keys=("units",)),
        "('units' of reset()): expected a tensor, got none",
    ),
    "another state": (
        lambda: Blind(num_envs=4, limit=5),
        "(observe sees what was seen): expected 'state' as recorded, got another in step 2 of episode 3",
    ),
    "padding": (
        lambda: PaddingIllegal(num_envs=4, limit=5),
        "(observe sees what was seen): expected ('agents', 'action_mask') as recorded, got another in step 6 of",
    ),
    "observe plays on": (
        lambda: Meddling(num_envs=4, limit=5),
        "(observe leaves the episodes under way as they are): expected equal ('agents', 'observation') in call 0",
    ),
    "illegal action": (
        lambda: TamperedEnv(counted(), act=lambda action: action.new_zeros(action.shape)),
        "(illegal action): expected a ValueError that names episode 3, agent 2 and action -1, got no error",
    ),
}


@pytest.mark.parametrize("clause", BROKEN)
def test_a_broken_clause_is_named(clause):
    make, words = BROKEN[clause]
    with pytest.raises(AssertionError, match=re.escape(words)):
        check_env(make())


def test_an_error_must_say_whose_action_was_illegal():
    class Mute(TamperedEnv):
        def step(self, action):
            try:
                return super().step(action)
            except ValueError:
                raise ValueError("no") from None

    with pytest.raises(AssertionError, match=re.escape("names episode 3, agent 2 and action -1, got 'no'")):
        check_env(Mute(counted()))


def test_an_action_that_is_only_masked_must_be_refused_too():
    lenient = TamperedEnv(counted(), act=lambda action: action.where((action < 0) | (action > 3), 0))
    with pytest.raises(AssertionError, match="names episode 0, agent 0 and action 1, got no error"):
        check_env(lenient)


def test_an_environment_may_say_that_it_is_not_deterministic():
    check_env(TamperedEnv(counted(), seed=drifting_seed()), deterministic=False)


def test_a_view_overwritten_by_the_next_call_is_allowed():
    env = counted()
    first = env.reset()
    before = first[OBSERVATION].clone()
    env.step(first[ACTION_MASK].int().argmax(-1))
    assert not torch.equal(first[OBSERVATION], before)
    check_env(env)


class Elsewhere(BattleEnvironment):
    """Its stages play other battles than its calls."""

    def stages(self, action, which):
        return BattleEnvironment("3m", num_envs=2, seed=1).stages(action, which)


class Agreeing(BattleEnvironment):
    """Its stages play on whatever the actions are, and begin no episode."""

    def stages(self, action, which):
        stages = super().stages(action, which)
        return stages._replace(advance=stage_of(say_yes, action.numpy()))


class Endless(BattleEnvironment):
    def stages(self, action, which):
        return super().stages(action, torch.zeros_like(which))


@njit
def say_yes(_):
    return -1


@pytest.mark.parametrize("broken", [Elsewhere, Agreeing, Endless])
def test_stages_that_play_something_else_are_found(broken):
    check_env(BattleEnvironment("3m", num_envs=2))
    with pytest.raises(AssertionError, match=r"Broken contract \(stages"):
        check_env(broken("3m", num_envs=2))
