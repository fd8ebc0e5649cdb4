"""Rollouts on several ranks share the work of one."""

import pytest
import torch

from qmix_lightning.envs.registry import make
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.spec import STATE
from tests.fakes import CountingEnv, CountingPolicy


class NumberedEnv(CountingEnv):
    """Battles that are numbered from ``first``."""

    def __init__(self, num_envs, first):
        super().__init__(num_envs, limit=5)
        self._battle += first


def shares(sizes, make_env):
    """A rollout for each rank, of so many battles."""
    total = sum(sizes)
    firsts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    return [
        BatchedRollout(make_env(size, first), first=first, round_size=total)
        for size, first in zip(sizes, firsts, strict=True)
    ]


def in_order(parts, sizes, episodes):
    """Put the episodes of all ranks in the order of one: round by round, rank by rank."""
    rows = []
    for start in range(0, episodes, sum(sizes)):
        for rank, size in enumerate(sizes):
            rows.append(parts[rank][start // sum(sizes) * size :][:size])
    return torch.cat(rows)


@pytest.mark.parametrize("episodes", [1, 4, 5, 6, 12, 17])
@pytest.mark.parametrize("sizes", [[5], [3, 2], [2, 2, 1]])
def test_ranks_play_between_them_what_one_plays(sizes, episodes):
    one, *_ = shares([5], NumberedEnv)
    policy = CountingPolicy(one.spec)
    expected = one.play(policy, episodes, seed=4)
    parts = [rollout.play(policy, episodes, seed=4) for rollout in shares(sizes, NumberedEnv)]
    assert sum(map(len, parts)) == episodes
    assert (in_order(parts, sizes, episodes) == expected).all()


def test_ranks_play_the_battles_of_the_simulator_that_one_plays():
    def battles(size, first):
        return make("battle/3m", num_envs=size, first=first)

    one, *_ = shares([8], battles)
    # The target network is not trained yet, but decides by observations all the same.
    learner = QLearner(one.spec)
    expected = one.play(learner, 21, seed=4)
    parts = [rollout.play(learner, 21, seed=4) for rollout in shares([5, 3], battles)]
    assert [len(part) for part in parts] == [15, 6]
    first_seen = in_order(parts, [5, 3], 21)[STATE][:, 0]
    assert torch.equal(first_seen, expected[STATE][:, 0])


def test_a_rank_without_a_battle_to_play_hands_out_none_of_the_right_shape():
    _, idle = shares([2, 2], NumberedEnv)
    none = idle.play(CountingPolicy(idle.spec), 1, seed=0)
    assert none.batch_size == (0, 6)
    assert none[STATE].shape == (0, 6, 3)


def test_the_steps_of_rollouts_on_other_ranks_are_counted():
    rollout = BatchedRollout(CountingEnv(num_envs=4), replicas=3)
    policy = CountingPolicy(rollout.spec)
    for _ in range(3):
        rollout.step(policy, explore=True)
    assert (rollout.env_steps, policy.calls) == (36, [0, 12, 24])


def test_a_rollout_that_counts_no_rank_is_refused():
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        BatchedRollout(CountingEnv(), replicas=0)


@pytest.mark.parametrize(("first", "round_size"), [(-1, 8), (5, 8), (0, 3)])
def test_battles_beyond_the_round_are_refused(first, round_size):
    with pytest.raises(ValueError, match=f"round_size={round_size} of a round, 0 to {round_size - 1}"):
        BatchedRollout(CountingEnv(num_envs=4), first=first, round_size=round_size)
