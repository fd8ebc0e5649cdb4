import pytest
import torch

from qmix_lightning.envs.matrix import MatrixGame
from qmix_lightning.envs.registry import make
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    DONE,
    MASK,
    NO_ACTION,
    OBSERVATION,
    REWARD,
    STATE,
    TERMINATED,
    Policy,
)
from tests.fakes import CountingEnv, CountingPolicy


@pytest.fixture
def rollout():
    return BatchedRollout(CountingEnv(num_envs=4, limit=5), seed=3)


@pytest.fixture
def policy(rollout):
    return CountingPolicy(rollout.spec)


def collect(rollout, policy, steps, explore=True):
    return [episodes for _ in range(steps) if (episodes := rollout.step(policy, explore=explore)) is not None]


def test_the_fakes_keep_the_protocols(rollout, policy):
    assert isinstance(policy, Policy)
    assert isinstance(rollout, AbstractRollout)


def test_every_step_is_counted_and_handed_out_once(rollout, policy):
    episodes = torch.cat(collect(rollout, policy, 50))
    assert rollout.env_steps == 4 * 50
    assert rollout.episodes == len(episodes)
    played = episodes[STATE][episodes[MASK][..., 0]]
    assert len(played.unique(dim=0)) == len(played)
    under_way = rollout.env_steps - len(played)
    assert 0 <= under_way < 4 * 5
    # Battle by battle, episodes and steps follow each other without a gap.
    for battle in range(4):
        mine = played[played[:, 0] == battle].int().tolist()
        expected, episode = [], 0
        while len(expected) < len(mine):
            length = int(rollout.env.length(torch.tensor(battle), torch.tensor(episode)))
            expected += [[battle, episode, step] for step in range(length)]
            episode += 1
        assert mine == expected


class Forgetful(CountingPolicy):
    """Remembers something else."""

    def initial_memory(self, battles):
        return torch.zeros(battles, self.spec.n_agents, 2)

    def act(self, observation, action_mask, last_action, memory, **options):
        assert not memory.any()
        assert (last_action == NO_ACTION).all()
        assert (observation[..., 1] == 0).all()
        return super().act(observation, action_mask, last_action, memory[..., :1], **options)[0], memory


def test_a_policy_that_remembers_otherwise_begins_all_battles_anew(rollout, policy):
    collect(rollout, policy, 2)
    with pytest.warns(UserWarning, match=r"memories of \[3, 1\], and go on with others of \[3, 2\]: all begin anew"):
        rollout.step(Forgetful(rollout.spec), explore=False)
    assert rollout.env_steps == 4 * 3


def test_a_policy_of_another_kind_that_remembers_alike_goes_on(rollout, policy):
    collect(rollout, policy, 2)
    before = rollout.env._episode.clone(), rollout.env._step.clone()
    rollout.step(CountingPolicy(rollout.spec), explore=False, times=0)
    assert all(map(torch.equal, before, (rollout.env._episode, rollout.env._step)))


def test_to_play_nothing_begins_nothing(rollout, policy):
    assert rollout.step(policy, explore=True, times=0) is None
    assert (rollout.env._episode == -1).all()


def test_one_policy_call_advances_all_battles_and_is_told_the_steps_so_far(rollout, policy):
    collect(rollout, policy, 6)
    assert policy.calls == [0, 4, 8, 12, 16, 20]


def test_without_exploration_the_policy_is_not_told_the_steps(rollout, policy):
    collect(rollout, policy, 3, explore=False)
    assert policy.calls == [None] * 3


def test_memory_and_last_action_of_a_restarted_battle_are_new_and_of_the_others_are_kept(rollout, policy):
    # CountingPolicy asserts it at every call.
    assert len(torch.cat(collect(rollout, policy, 60))) > 20


def test_a_memory_may_be_computed_in_another_precision_than_it_begins_in(rollout, policy):
    act = policy.act

    def lower(observation, action_mask, last_action, memory, **options):
        action, memory = act(observation, action_mask, last_action, memory.float(), **options)
        return action, memory.bfloat16()

    policy.act = lower
    assert len(torch.cat(collect(rollout, policy, 20))) > 5


def test_the_same_seed_plays_the_same_episodes(policy):
    def run(seed):
        return torch.cat(collect(BatchedRollout(CountingEnv(), seed=seed), policy, 30))

    assert (run(1) == run(1)).all()
    assert not torch.equal(run(1)[ACTION], run(2)[ACTION])


def test_a_cut_off_episode_is_done_but_not_terminated(rollout, policy):
    episodes = torch.cat(collect(rollout, policy, 40))
    limit = episodes[MASK].sum((1, 2)) == 5
    assert limit.any()
    assert not limit.all()
    assert episodes[DONE].any(1).all()
    assert torch.equal(episodes[TERMINATED].any(1)[:, 0], ~limit)


def test_episodes_begun_in_inference_mode_can_be_trained_on_and_continued_outside(rollout, policy):
    with torch.inference_mode():
        rollout.step(policy, explore=True)
        played = rollout.play(policy, 4, seed=0)
        rollout.step(policy, explore=True)
    episodes = torch.cat(collect(rollout, policy, 20))
    weight = torch.ones(3, requires_grad=True)
    ((episodes[OBSERVATION] @ weight).sum() + (played[OBSERVATION] @ weight).sum()).backward()
    assert weight.grad is not None


def test_a_resumed_rollout_counts_and_explores_on():
    policy = CountingPolicy(MatrixGame(num_envs=3).spec)

    def random(observation, action_mask, last_action, memory, *, env_steps, generator):
        return torch.randint(0, 3, last_action.shape, generator=generator), memory

    policy.act = random
    whole, first, second = (BatchedRollout(MatrixGame(num_envs=3), seed=seed) for seed in (1, 1, 9))
    expected = collect(whole, policy, 8)
    collect(first, policy, 5)
    second.load_state_dict(first.state_dict())
    assert (torch.cat(collect(second, policy, 3)) == torch.cat(expected[5:])).all()
    assert (second.env_steps, second.episodes) == (24, 24)


def test_play_plays_the_first_episode_of_every_battle_in_order(rollout, policy):
    episodes = rollout.play(policy, 4, seed=2)
    assert episodes.batch_size == (4, 6)
    assert torch.equal(episodes[STATE][:, 0], torch.tensor([[battle, 0.0, 0.0] for battle in range(4)]))
    lengths = rollout.env.length(torch.arange(4), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(episodes[MASK].sum((1, 2)), lengths)
    assert torch.equal(episodes[REWARD].sum((1, 2)), (lengths * (lengths - 1) / 2).float())


def test_play_is_greedy_not_counted_and_repeats_with_its_seed(rollout, policy):
    first, second = (rollout.play(policy, 4, seed=2) for _ in range(2))
    assert (first == second).all()
    assert set(policy.calls) == {None}
    assert (rollout.env_steps, rollout.episodes) == (0, 0)


@pytest.mark.parametrize("episodes", [1, 3, 4, 9])
def test_play_plays_as_many_episodes_as_asked_for_without_preferring_short_ones(rollout, policy, episodes):
    played = rollout.play(policy, episodes, seed=0)
    assert played[STATE][:, 0, 0].tolist() == [battle % 4 for battle in range(episodes)]


def test_training_on_the_same_environment_starts_anew_after_play(rollout, policy):
    collect(rollout, policy, 3)
    rollout.play(policy, 4, seed=0)
    episodes = torch.cat(collect(rollout, policy, 20))
    assert (episodes[STATE][:, 0, 2] == 0).all()


def test_playing_nothing_is_refused(rollout, policy):
    with pytest.raises(ValueError, match="episodes >= 1, got 0"):
        rollout.play(policy, 0, seed=0)


class RandomLegal:
    def __init__(self, spec):
        self.spec = spec

    def initial_memory(self, battles):
        return torch.zeros(battles, self.spec.n_agents, 0)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        return torch.rand(action_mask.shape, generator=generator).masked_fill_(~action_mask, -1).argmax(-1), memory


def test_compact_episodes_hold_a_snapshot_from_which_the_environment_tells_what_was_seen():
    whole, compact = (BatchedRollout(make("battle/3m", num_envs=4, seed=1), compact=option) for option in (False, True))
    policy = RandomLegal(whole.spec)
    expected, episodes = (torch.cat(collect(rollout, policy, 100)) for rollout in (whole, compact))
    seen, snapshot = (OBSERVATION, ACTION_MASK, STATE), compact.env.snapshot_keys
    assert set(episodes.keys(True, True)) == {*expected.keys(True, True), *snapshot}.difference(seen)
    again = compact.env.observe(episodes)
    assert (again.select(*expected.keys(True, True)) == expected).all()
    assert len(expected) > 4


def test_compact_episodes_of_an_environment_without_a_snapshot_are_refused():
    with pytest.raises(ValueError, match=r"CountingEnv of fake/counting has none: its snapshot_keys are empty"):
        BatchedRollout(CountingEnv(), compact=True)
