"""A rollout that was saved and loaded plays on as the one that was not."""

from io import BytesIO

import pytest
import torch
from tensordict import TensorDict

from qmix_lightning.envs.matrix import MatrixGame, TwoStepGame
from qmix_lightning.envs.registry import make
from qmix_lightning.exploration.epsilon_greedy import epsilon_greedy
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import STATE
from tests.fakes import CountingEnv, CountingPolicy, TamperedEnv

ENVS = {
    "counting": lambda num_envs=4: CountingEnv(num_envs, limit=7, seed=2),
    "matrix": lambda num_envs=4: MatrixGame(num_envs=num_envs),
    "two_step": lambda num_envs=4: TwoStepGame(num_envs=num_envs),
    "battle": lambda num_envs=4: make("battle/3m", num_envs=num_envs, seed=5),
}
CASES = [(name, False) for name in ENVS] + [("battle", True)]


class Wanderer:
    """Chooses at random, by what it remembers of all it saw and did, and writes down what it was asked and said."""

    def __init__(self, spec):
        self.spec, self.said = spec, []

    def initial_memory(self, battles):
        return torch.zeros(battles, self.spec.n_agents, 1)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        memory = 0.5 * memory + observation.sum(-1, keepdim=True) + last_action[..., None]
        value = (memory * torch.arange(1, self.spec.n_actions + 1)).sin()
        action = epsilon_greedy(value, action_mask, 0.5, generator)
        self.said.append((env_steps, last_action.clone(), memory, action))
        return action, memory


def run(rollout, policy, steps):
    return [rollout.step(policy, explore=True) for _ in range(steps)]


def through_a_file(state):
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, TensorDict):
        return set(first.keys(True, True)) == set(second.keys(True, True)) and bool((first == second).all())
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    return first == second


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 23, 70])
@pytest.mark.parametrize(("name", "compact"), CASES)
def test_what_follows_is_the_same_bit_for_bit(name, compact, steps):
    whole, first, second = (BatchedRollout(ENVS[name](), seed=seed, compact=compact) for seed in (1, 1, 9))
    policy, resumed = Wanderer(whole.spec), Wanderer(whole.spec)
    run(whole, policy, steps)
    run(first, Wanderer(whole.spec), steps)
    second.env.seed(99)
    assert second.load_state_dict(through_a_file(first.state_dict()))
    expected = run(whole, policy, 80)
    assert equal(run(second, resumed, 80), expected)
    assert equal(resumed.said, policy.said[steps:])
    assert (second.env_steps, second.episodes) == (whole.env_steps, whole.episodes)
    assert sum(episodes is not None for episodes in expected) > 0


def test_a_rollout_that_has_played_already_takes_up_a_state_as_well():
    whole, other = (BatchedRollout(ENVS["counting"](), seed=seed) for seed in (1, 9))
    run(whole, CountingPolicy(whole.spec), 10)
    run(other, CountingPolicy(whole.spec), 13)
    other.load_state_dict(whole.state_dict())
    policy = CountingPolicy(whole.spec)
    assert equal(run(other, policy, 30), run(whole, policy, 30))


@pytest.mark.parametrize("name", ENVS)
def test_a_state_loaded_is_the_state_saved(name):
    first, second = (BatchedRollout(ENVS[name]()) for _ in range(2))
    run(first, Wanderer(first.spec), 11)
    second.load_state_dict(first.state_dict())
    assert equal(second.state_dict(), first.state_dict())


def test_a_state_is_not_changed_by_playing_on():
    rollout = BatchedRollout(ENVS["counting"]())
    policy = CountingPolicy(rollout.spec)
    run(rollout, policy, 8)
    state = rollout.state_dict()
    copy = through_a_file(state)
    run(rollout, policy, 20)
    assert equal(state, copy)


def test_of_the_record_only_the_steps_under_way_are_saved():
    rollout = BatchedRollout(CountingEnv(4, limit=50, seed=48))
    run(rollout, CountingPolicy(rollout.spec), 100)
    recorder = rollout.state_dict()["under_way"]["recorder"]
    assert {len(entry) for entry in recorder["entries"].values()} == {int((recorder["length"] + 1).sum())}


def test_a_resumed_rollout_whose_battles_had_not_begun_begins_them():
    whole, first, second = (BatchedRollout(ENVS["counting"](), seed=seed) for seed in (1, 1, 9))
    policy = CountingPolicy(whole.spec)
    for rollout in (whole, first):
        run(rollout, policy, 3)
        rollout.play(policy, 4, seed=3)
    assert second.load_state_dict(first.state_dict())
    assert equal(run(second, policy, 20), run(whole, policy, 20))


def test_battles_that_cannot_be_rewound_begin_anew_and_the_state_says_so():
    rollout, resumed = (BatchedRollout(TamperedEnv(ENVS["counting"]()), seed=seed) for seed in (1, 9))
    policy = CountingPolicy(rollout.spec)
    run(rollout, policy, 9)
    state = through_a_file(rollout.state_dict())
    assert state["exact"] is False
    run(resumed, policy, 2)
    assert not resumed.load_state_dict(state)
    assert (resumed.env_steps, resumed.episodes) == (rollout.env_steps, rollout.episodes)
    emitted = torch.cat([episodes for episodes in run(resumed, policy, 20) if episodes is not None])
    assert (emitted[STATE][:, 0, 2] == 0).all()
    assert (emitted[STATE][:4, 0, 1] >= 1).all()


def test_another_number_of_battles_begins_anew():
    rollout, resumed = BatchedRollout(ENVS["counting"](4)), BatchedRollout(ENVS["counting"](6))
    policy = CountingPolicy(rollout.spec)
    run(rollout, policy, 9)
    assert not resumed.load_state_dict(through_a_file(rollout.state_dict()))
    run(resumed, policy, 1)
    assert resumed.env_steps == 9 * 4 + 6


def test_battles_recorded_otherwise_begin_anew():
    rollout, resumed = BatchedRollout(ENVS["battle"]()), BatchedRollout(ENVS["battle"](), compact=True)
    run(rollout, Wanderer(rollout.spec), 9)
    assert not resumed.load_state_dict(through_a_file(rollout.state_dict()))
    run(resumed, Wanderer(rollout.spec), 1)
    assert resumed.env_steps == 40
