"""Steps in one compiled call, against the same steps one operation after the other."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.gru import GRUAgent
from qmix_lightning.agents.mlp import MLPAgent
from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.registry import make
from qmix_lightning.exploration.epsilon_greedy_policy import EpsilonGreedyPolicy
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import ACTION


class OneByOne:
    """The same policy, of which nobody can have a stage."""

    def __init__(self, policy):
        self.initial_memory, self.act = policy.initial_memory, policy.act


def learner_of(env, **options):
    torch.manual_seed(0)
    return QLearner(env.spec, **{"epsilon_steps": 400, **options})


def rollout_of(name="battle/3m", num_envs=4, **options):
    return BatchedRollout(make(name, num_envs=num_envs, seed=3, **options.pop("env", {})), seed=1, **options)


def collected(rollout, policy, calls=25, *, explore=True):
    taken = [rollout.step(policy, explore=explore, times=1 + i % 6) for i in range(calls)]
    return torch.cat([episodes for episodes in taken if episodes is not None])


def is_fused(rollout):
    return rollout._fused is not None and rollout._fused.playable


def assert_same(one, other):
    """That two states or tensordicts hold the same to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_episodes(one, other):
    assert len(one) == len(other) > 0
    assert_same(one.flatten_keys().to_dict(), other.flatten_keys().to_dict())


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("agent", [GRUAgent, MLPAgent])
@pytest.mark.parametrize(("name", "num_envs"), [("battle/3m", 1), ("battle/3m", 70), ("battle/2s3z", 3)])
def test_the_same_battles_are_played_and_recorded(name, num_envs, agent, explore, compact):
    fused, plain = (rollout_of(name, num_envs, compact=compact) for _ in range(2))
    learner = learner_of(fused.env, agent=agent)
    episodes = collected(fused, learner, 60, explore=explore)
    assert_same_episodes(episodes, collected(plain, OneByOne(learner), 60, explore=explore))
    assert is_fused(fused)
    assert plain._fused is not None
    assert not is_fused(plain)
    assert_same(fused.state_dict(), plain.state_dict())


def test_many_steps_at_once_are_as_many_one_by_one():
    fused, plain = rollout_of(num_envs=1), rollout_of(num_envs=1)
    learner = learner_of(fused.env)
    episodes = fused.step(learner, explore=True, times=300)
    ones = [plain.step(OneByOne(learner), explore=True) for _ in range(300)]
    assert_same_episodes(episodes, torch.cat([one for one in ones if one is not None]))
    assert_same(fused.state_dict(), plain.state_dict())


def test_threads_of_the_simulator_change_nothing():
    fused, plain = rollout_of(env={"threads": 2}), rollout_of()
    learner = learner_of(fused.env)
    assert_same_episodes(collected(fused, learner, 60), collected(plain, OneByOne(learner), 60))
    assert is_fused(fused)


def test_updates_of_the_network_are_heeded():
    fused, plain = rollout_of(), rollout_of()
    learner = learner_of(fused.env, epsilon_end=0.0, epsilon_steps=1)
    for _ in range(4):
        episodes = collected(fused, learner), collected(plain, OneByOne(learner))
        assert_same_episodes(*episodes)
        with torch.no_grad():
            for parameter in learner.agent.parameters():
                parameter.add_(torch.randn_like(parameter))
    assert is_fused(fused)


def test_evaluations_are_the_same():
    fused, plain = rollout_of(), rollout_of()
    learner = learner_of(fused.env)
    assert_same_episodes(fused.play(learner, 10, seed=5), plain.play(OneByOne(learner), 10, seed=5))
    assert is_fused(fused)


def test_training_goes_on_from_where_it_was_saved():
    fused, resumed = rollout_of(), rollout_of()
    learner = learner_of(fused.env)
    collected(fused, learner)
    resumed.load_state_dict(fused.state_dict())
    assert_same_episodes(collected(fused, learner), collected(resumed, learner))
    assert_same(fused.state_dict(), resumed.state_dict())


def test_epsilon_follows_every_step():
    rollout = rollout_of()
    learner = learner_of(rollout.env, epsilon_start=0.0, epsilon_end=0.0)
    asked = []
    policy = EpsilonGreedyPolicy(learner.agent, learner.agent, lambda steps: asked.append(steps) or 0.5)
    rollout.step(policy, explore=True, times=20)
    assert asked == [4 * step for step in range(20)]


def test_an_improbable_epsilon_is_refused():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    policy = EpsilonGreedyPolicy(learner.agent, learner.agent, lambda steps: 0.5 if steps < 40 else 1.5)
    with pytest.raises(ValueError, match=r"epsilon is a probability, expected a number from 0 to 1, got 1\.5"):
        rollout.step(policy, explore=True, times=20)


class _ObservingAgent(AbstractAgent):
    """Knows nothing of compiled loops."""

    memory_size = 2

    def __init__(self, spec):
        super().__init__(spec)
        self.layer = nn.Linear(spec.observation_size, spec.n_actions)

    def step(self, observation, last_action, memory):
        return self.layer(observation), memory + 1

    def forward(self, observation, last_action, is_init=None):
        return self.layer(observation)


class _OtherStep(GRUAgent):
    def step(self, observation, last_action, memory):
        value, memory = super().step(observation, last_action, memory)
        return -value, memory


class _OtherForward(MLPAgent):
    def forward(self, observation, last_action, is_init=None, packing=None):
        return -super().forward(observation, last_action, is_init, packing)


class _OtherInfer(GRUAgent):
    def infer(self, observation, last_action, memory, action_mask=None):
        value, memory = super().infer(observation, last_action, memory, action_mask)
        return -value, memory


class OtherAct(QLearner):
    def act(self, *tensors, **options):
        return super().act(*tensors, **options)[0].clone(), tensors[3]


def others(env):
    hooked = learner_of(env)
    hooked.agent.head.register_forward_hook(lambda module, inputs, output: -output)
    replaced = learner_of(env)
    act = replaced.act
    replaced.act = lambda *tensors, **options: act(*tensors[:3], torch.zeros_like(tensors[3]), **options)
    with torch.no_grad():
        normed = learner_of(env)
        nn.utils.parametrizations.weight_norm(normed.agent.head)
    bare = learner_of(env)
    bare.agent.head = nn.Linear(64, 9, bias=False)
    longer = learner_of(env, agent=MLPAgent)
    longer.agent.head.append(nn.Linear(9, 9))
    wider = learner_of(env, agent=MLPAgent)
    wider.agent.head[1], wider.agent.head[3] = nn.Linear(64, 80), nn.Linear(80, 9)
    return {
        "another network": learner_of(env, agent=_ObservingAgent),
        "another step": learner_of(env, agent=_OtherStep),
        "another forward": learner_of(env, agent=_OtherForward),
        "another layer": longer,
        "wider layers": wider,
        "a layer without bias": bare,
        "another infer": learner_of(env, agent=_OtherInfer),
        "another act": OtherAct(env.spec),
        "an act of one learner": replaced,
        "a hook": hooked,
        "a weight that is made anew": normed,
        "double precision": learner_of(env).double(),
    }


@pytest.mark.parametrize("what", others(make("battle/3m", num_envs=1)))
def test_who_decides_otherwise_is_asked(what):
    fused, plain = rollout_of(), rollout_of()
    policy = others(fused.env)[what]
    assert_same_episodes(collected(fused, policy), collected(plain, OneByOne(policy)))
    assert not is_fused(fused)


def test_mixed_precision_is_left_to_torch():
    fused, plain = rollout_of(), rollout_of()
    agent = learner_of(fused.env).agent
    policy = EpsilonGreedyPolicy(agent, agent, lambda _: 0.1, lambda: torch.autocast("cpu", torch.bfloat16))
    assert_same_episodes(collected(fused, policy), collected(plain, OneByOne(policy)))
    assert not is_fused(fused)


def change_agent(learner):
    learner.agent.head = nn.Linear(64, learner.spec.n_actions)


def add_hook(learner):
    learner.agent.gru.register_forward_pre_hook(lambda module, inputs: None)


def change_act(learner):
    act = learner.act
    learner.act = lambda *tensors, **options: (act(*tensors, **options)[0], tensors[3])


def think_for_the_dead(learner):
    learner.agent.no_op_is_final = False


def change_loss(learner):
    learner.loss = QLearner(learner.spec).loss


@pytest.mark.parametrize("change", [change_agent, add_hook, change_act, think_for_the_dead, change_loss])
def test_a_change_of_the_policy_is_noticed(change):
    fused, plain = rollout_of(), rollout_of()
    learner = learner_of(fused.env)
    before = collected(fused, learner), collected(plain, OneByOne(learner))
    assert_same_episodes(*before)
    assert is_fused(fused)
    torch.manual_seed(1)
    change(learner)
    assert_same_episodes(collected(fused, learner), collected(plain, OneByOne(learner)))


def test_policies_may_take_turns():
    fused, plain = rollout_of(), rollout_of()
    first, second = learner_of(fused.env), learner_of(fused.env, epsilon_start=0.2)
    for learner, explore in [(first, True), (second, True), (first, False), (first, True), (second, False)]:
        for rollout, policy in ((fused, learner), (plain, OneByOne(learner))):
            rollout.step(policy, explore=explore, times=8)
    assert_same(fused.state_dict(), plain.state_dict())
    assert_same_episodes(collected(fused, first), collected(plain, OneByOne(first)))


def test_a_snapshot_plays_as_the_network_was():
    fused, plain = rollout_of(), rollout_of()
    learner, other = (learner_of(fused.env, epsilon_end=0.0, epsilon_steps=1) for _ in range(2))
    still = learner.snapshot()
    with torch.no_grad():
        learner.agent.head.weight.neg_()
    assert_same_episodes(collected(fused, still), collected(plain, OneByOne(other)))
    assert is_fused(fused)
    assert learner.snapshot() is still
    with torch.no_grad():
        other.agent.head.weight.neg_()
    assert_same_episodes(collected(fused, still), collected(plain, OneByOne(other)))


class OtherBattles(BattleEnvironment):
    """Battles in which nobody may attack for long."""

    def step(self, action):
        self.steps = getattr(self, "steps", 0) + 1
        return super().step(action)


def test_an_environment_with_a_step_of_its_own_is_asked():
    rollout = BatchedRollout(OtherBattles("3m", num_envs=2, seed=3), seed=1)
    collected(rollout, learner_of(rollout.env), 10)
    assert rollout.env.steps == rollout.env_steps // 2
    assert not is_fused(rollout)


def test_values_that_are_no_numbers_are_left_to_torch():
    fused, plain = rollout_of(), rollout_of()
    learner = learner_of(fused.env, epsilon_end=0.0, epsilon_steps=1)
    assert_same_episodes(collected(fused, learner), collected(plain, OneByOne(learner)))
    with torch.no_grad():
        learner.agent.head.bias[1:].fill_(torch.nan)
    with torch.no_grad():
        learner.agent.head.bias[0].fill_(torch.nan)
    raised = []
    for rollout, policy in ((fused, learner), (plain, OneByOne(learner))):
        try:
            rollout.step(policy, explore=False)
        except ValueError as error:
            raised.append(str(error))
        else:
            raised.append(rollout._last_action.tolist())
    assert raised[0] == raised[1]


def test_a_battle_that_goes_on_after_its_limit_is_an_error():
    rollout = rollout_of()
    rollout.env.spec = replace(rollout.env.spec, episode_limit=7)
    rollout = BatchedRollout(rollout.env)
    learner = learner_of(rollout.env)
    with pytest.raises(RuntimeError, match=r"Battle \d goes on after 7 steps, the episode_limit of its spec"):
        rollout.step(learner, explore=True, times=8)
    assert is_fused(rollout)


def test_episodes_handed_out_are_not_written_to_later():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    episodes = collected(rollout, learner)
    before = episodes.clone()
    collected(rollout, learner)
    assert torch.equal(episodes[ACTION], before[ACTION])
    assert_same_episodes(episodes, before)


def test_a_copy_of_a_rollout_has_stages_of_its_own():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    collected(rollout, learner)
    assert is_fused(rollout)
    assert copy.deepcopy(rollout._fused) is None
    assert pickle.loads(pickle.dumps(rollout._fused)) is None


def test_target_networks_play_by_compiled_loops_too():
    rollout = rollout_of()
    learner = learner_of(rollout.env, greedy_network="target")
    collected(rollout, learner, explore=False)
    assert is_fused(rollout)
    assert rollout._fused._policy is learner
