"""What compiled loops must leave to Python: methods that somebody replaced, and steps that raise or need torch."""

from contextlib import contextmanager

import pytest
import torch
from numba import njit

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.registry import make
from qmix_lightning.exploration.epsilon_greedy_policy import EpsilonGreedyPolicy
from qmix_lightning.functional.stages import stage_of
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout
from tests.rollout.test_fused import assert_same, is_fused, learner_of, rollout_of


class Asked:
    """A policy that is asked through its method ``act`` alone, as it is then."""

    def __init__(self, policy):
        self._policy = policy

    def initial_memory(self, battles):
        return self._policy.initial_memory(battles)

    def act(self, *tensors, **options):
        return self._policy.act(*tensors, **options)


class Lending:
    """Anything, with some methods of its own."""

    def __init__(self, wrapped, **methods):
        self.__dict__.update(methods, wrapped=wrapped)

    def __getattr__(self, name):
        return getattr(self.__dict__["wrapped"], name)


def outcome(rollout, policy, explore, times):
    """Episodes by key or what was raised, and the state after it."""
    try:
        episodes = rollout.step(policy, explore=explore, times=times)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        came = repr(error)
    else:
        came = None if episodes is None else episodes.flatten_keys().to_dict()
    return {"came": readable(came), "state": readable(rollout.state_dict())}


def readable(came):
    """The same with bytes in place of numbers, which compare as NaN does not."""
    if isinstance(came, dict):
        return {key: readable(value) for key, value in came.items()}
    return came.contiguous().view(-1).view(torch.uint8) if isinstance(came, torch.Tensor) and came.numel() else came


def assert_same_course(policy_of, change=lambda rollout, policy: None, *, explore=True, before=10, after=25):
    """That compiled loops and single calls bring the same, before a change and after it; the rollouts."""
    rollouts, courses = [], []
    for wrap in (lambda policy: policy, Asked):
        rollout = rollout_of()
        policy = policy_of(rollout.env)
        who, course = wrap(policy), []
        for i in range(before):
            course.append(outcome(rollout, who, explore, 1 + i % 6))
        assert is_fused(rollout) == (before > 0 and who is policy)
        torch.manual_seed(1)
        change(rollout, policy)
        for i in range(after):
            course.append(outcome(rollout, who, explore, 1 + i % 6))
        rollouts.append(rollout)
        courses.append(course)
    for one, other in zip(*courses, strict=True):
        assert_same(one, other)
    return rollouts


def greedy_learner(env):
    return learner_of(env, epsilon_end=0.0, epsilon_steps=1)


def exploring(epsilon):
    def policy_of(env):
        agent = learner_of(env).agent
        return EpsilonGreedyPolicy(agent, agent, epsilon)

    return policy_of


def generous(step):
    """A step that brings a reward more."""

    def generous_step(*arguments):
        came = step(*arguments)
        came["reward"].add_(1.0)
        return came

    return generous_step


def replace_step(rollout, policy):
    rollout.env.step = generous(rollout.env.step)


def replace_reset(rollout, policy):
    reset = rollout.env.reset
    rollout.env.reset = lambda which=None: (rollout.env.seed(5), reset(which))[1]


def wrap_env(rollout, policy):
    rollout.env = Lending(rollout.env, step=generous(rollout.env.step))


def another_env(rollout, policy):
    rollout.env = make("battle/3m", num_envs=4, seed=9)
    rollout.env.reset()


@pytest.mark.parametrize("before", [0, 10])
@pytest.mark.parametrize("change", [replace_step, replace_reset, wrap_env])
def test_what_is_put_in_the_place_of_the_environments_methods_is_called(change, before):
    assert not is_fused(assert_same_course(learner_of, change, before=before)[0])


def test_another_environment_is_played_in():
    assert is_fused(assert_same_course(learner_of, another_env)[0])


def test_a_step_that_is_replaced_for_all_battles_is_called(monkeypatch):
    monkeypatch.setattr(BattleEnvironment, "step", generous(BattleEnvironment.step))
    assert_same_course(learner_of, before=0)


def without_memory(decide):
    """Decisions of agents that remember nothing."""
    return lambda *tensors, **options: (decide(*tensors, **options)[0], torch.zeros_like(tensors[3]))


def forget_in_act(rollout, policy):
    policy.act = without_memory(policy.act)


def infer_otherwise(rollout, policy):
    infer = policy.agent.infer
    policy.agent.infer = lambda *tensors: (-infer(*tensors)[0], tensors[2])


def explore_otherwise(rollout, policy):
    policy.epsilon = lambda env_steps: 0.5


def compute_in_half(rollout, policy):
    policy._autocast = lambda: torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("change", [infer_otherwise, explore_otherwise, compute_in_half])
@pytest.mark.parametrize("before", [0, 10])
def test_what_is_put_in_the_place_of_a_learners_methods_is_called(change, before):
    assert_same_course(greedy_learner, change, before=before)


@pytest.mark.parametrize("before", [0, 10])
def test_what_is_put_in_the_place_of_a_policys_act_is_called(before):
    assert not is_fused(assert_same_course(exploring(lambda _: 0.1), forget_in_act, before=before)[0])


@pytest.mark.parametrize("patched", [QLearner, EpsilonGreedyPolicy])
def test_an_act_that_is_replaced_for_all_policies_is_called(patched, monkeypatch):
    act = patched.act
    monkeypatch.setattr(patched, "act", lambda *arguments, **options: act(*arguments, **options))
    rollout = rollout_of()
    rollout.step(learner_of(rollout.env), explore=True, times=20)
    assert not is_fused(rollout)


def test_a_policy_that_lends_a_stage_is_asked_itself():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    asked = []
    policy = Lending(learner, act=lambda *tensors, **options: asked.append(1) or learner.act(*tensors, **options))
    rollout.step(policy, explore=True, times=20)
    assert len(asked) == 20
    assert not is_fused(rollout)


class OtherPolicy(QLearner):
    @property
    def policy(self):
        return EpsilonGreedyPolicy(self.agent, self.target_agent, lambda env_steps: 1.0)


def test_a_learner_acts_by_its_own_epsilon_whatever_policy_it_names():
    def policy_of(env):
        torch.manual_seed(0)
        return OtherPolicy(env.spec, epsilon_start=0.0)

    assert is_fused(assert_same_course(policy_of, before=0)[0])


def test_draws_are_of_the_default_dtype():
    def course(wrap):
        rollout = rollout_of()
        learner = learner_of(rollout.env)
        torch.set_default_dtype(torch.float64)
        try:
            return [outcome(rollout, wrap(learner), True, 6) for _ in range(10)]
        finally:
            torch.set_default_dtype(torch.float32)

    for one, other in zip(course(lambda policy: policy), course(Asked), strict=True):
        assert_same(one, other)


ODD = {
    "improbable": lambda env_steps: 0.5 if not 90 < env_steps < 110 else 1.5,
    "an error": lambda env_steps: 0.5 if not 90 < env_steps < 110 else 1 / 0,
    "a tensor": lambda env_steps: torch.tensor(0.5),
    "an improbable tensor": lambda env_steps: torch.tensor(1.5),
    "a tensor for each battle": lambda env_steps: torch.tensor([[0.1], [0.2], [0.5], [0.9]]),
}


@pytest.mark.parametrize("epsilon", ODD)
def test_steps_before_an_odd_epsilon_are_played(epsilon):
    assert_same_course(exploring(ODD[epsilon]), before=0)


def spoil(number, *actions):
    def change(rollout, policy):
        with torch.no_grad():
            policy.agent.head.bias[list(actions)] = number

    return change


def forbid_all(rollout, policy):
    rollout.env.reset()["agents", "action_mask"][2, 1] = False


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        spoil(torch.nan, *range(9)),
        spoil(torch.nan, 3, 4),
        spoil(-torch.inf, *range(9)),
        forbid_all,
    ],
    ids=["all are NaN", "some are NaN", "none is worth a thing", "nothing is legal"],
)
def test_steps_that_are_refused_leave_nothing_behind(change, explore):
    assert_same_course(exploring(lambda _: 0.3), change, explore=explore)


def load_other_battles(rollout, policy):
    other = make("battle/3m", num_envs=4, seed=12)
    other.reset()
    rollout.env.load_state_dict(other.state_dict())


def test_what_was_played_before_a_battle_is_overdue_counts():
    # Their clocks begin anew, which the recorder does not know.
    assert_same_course(learner_of, load_other_battles, after=40)


class Interrupted(BattleEnvironment):
    """Battles of which the third compiled call is the last before the user loses patience."""

    calls = 0

    def stages(self, action, which):
        return super().stages(action, which)._replace(around=self.interrupted)

    @contextmanager
    def interrupted(self):
        yield
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt


def test_an_interrupted_call_has_played_what_it_has_played():
    learner = learner_of(make("battle/3m", num_envs=4))
    rollout, other = (BatchedRollout(env("3m", num_envs=4, seed=3)) for env in (Interrupted, BattleEnvironment))
    with pytest.raises(KeyboardInterrupt):
        rollout.step(learner, explore=True, times=1000)
    assert is_fused(rollout)
    other.step(learner, explore=True, times=rollout.env_steps // 4)
    # At the latest at the end of the next call all that waits to be handed out is.
    for each in (rollout, other):
        each.step(learner, explore=True, times=30)
        each.episodes = 0
    assert_same(rollout.state_dict(), other.state_dict())


class Stubborn:
    """Does what is legal if it is asked, and nothing at all by its stage."""

    most = 8

    def initial_memory(self, battles):
        return torch.zeros(battles, 3, 1)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        return action_mask.int().argmax(-1), memory

    def stage(self, observation, action_mask, last_action, memory, *, explore):
        plan = Stubborn()
        plan.stage = stage_of(do_nothing, last_action.numpy())
        return plan

    def stays(self):
        return True

    def prepare(self, env_steps, generator):
        return 8

    def take_back(self, n_calls):
        self.left = n_calls


@njit
def do_nothing(last_action):
    last_action[:] = 0
    return -1


@njit
def say_no(_):
    return 0


class Refusing(BattleEnvironment):
    def stages(self, action, which):
        return super().stages(action, which)._replace(advance=stage_of(say_no, action.numpy()))


def test_an_illegal_action_of_a_stage_is_raised_as_of_a_call():
    rollout = rollout_of()
    with pytest.raises(ValueError, match=r"Agent 0 of battle 0 cannot take action 0; legal are"):
        rollout.step(Stubborn(), explore=True, times=20)
    assert is_fused(rollout)
    assert rollout.env_steps == 2 * 4
    assert rollout._fused._plan.left == 1


def test_an_environment_whose_stage_refuses_what_it_plays_is_told_so():
    rollout = BatchedRollout(Refusing("3m", num_envs=4, seed=3))
    with pytest.raises(RuntimeError, match="A stage of Refusing refused a step that its method step plays"):
        rollout.step(learner_of(rollout.env), explore=True, times=20)


def test_what_another_policy_was_shown_is_not_written_over():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    shown = []
    asked = Lending(
        learner, act=lambda *tensors, **options: shown.append(tensors[3]) or learner.act(*tensors, **options)
    )
    rollout.step(learner, explore=True, times=6)
    rollout.step(asked, explore=True)
    before = shown[0].clone()
    rollout.step(learner, explore=True, times=6)
    assert is_fused(rollout)
    assert torch.equal(shown[0], before)


def test_after_autocast_compiled_loops_play_again():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    with torch.autocast("cpu", torch.bfloat16):
        rollout.step(learner, explore=True, times=6)
    assert not is_fused(rollout)
    rollout.step(learner, explore=True, times=6)
    assert is_fused(rollout)


def test_no_steps_are_played_less_than_none_times():
    rollout = rollout_of()
    learner = learner_of(rollout.env)
    rollout.step(learner, explore=True)
    assert rollout.step(learner, explore=True, times=-1) is None
    assert rollout.env_steps == 4
