import threading

import pytest
import torch

from qmix_lightning.rollout.ahead import OneAhead
from qmix_lightning.rollout.batched import BatchedRollout
from tests.fakes import CountingEnv, CountingPolicy


def test_what_is_played_ahead_is_what_would_be_played_in_turn():
    in_turn, thread = BatchedRollout(CountingEnv()), BatchedRollout(CountingEnv())
    ahead, policy = OneAhead(thread), CountingPolicy(in_turn.spec)
    for _ in range(4):
        ahead.begin(policy, steps=5)
        expected = [ended for _ in range(5) if (ended := in_turn.step(policy, explore=True)) is not None]
        assert (torch.cat(ahead.finish()) == torch.cat(expected)).all()
    assert ahead.finish() == []
    ahead.close()


def test_waiting_does_not_take_anything_away():
    ahead = OneAhead(BatchedRollout(CountingEnv()))
    ahead.begin(CountingPolicy(ahead._rollout.spec), steps=5)
    seen = ahead.wait()
    again = OneAhead(BatchedRollout(CountingEnv()))
    again.restore(seen)
    for ours, theirs in zip(again.finish(), ahead.finish(), strict=True):
        assert (ours == theirs).all()
    ahead.close()


def test_it_plays_in_a_thread_with_as_many_threads_of_computation():
    class Nosy(CountingPolicy):
        def act(self, *args, **options):
            self.seen = threading.current_thread() is not threading.main_thread(), torch.get_num_threads()
            return super().act(*args, **options)

    ahead = OneAhead(BatchedRollout(CountingEnv()))
    policy = Nosy(ahead._rollout.spec)
    ahead.begin(policy, steps=1)
    ahead.finish()
    assert policy.seen == (True, torch.get_num_threads())
    ahead.close()


def test_an_error_in_the_thread_is_raised_where_its_battles_are_awaited():
    class Wrong(CountingPolicy):
        def act(self, observation, action_mask, *args, **options):
            return torch.full(action_mask.shape[:-1], 99), torch.zeros(1)

    ahead = OneAhead(BatchedRollout(CountingEnv()))
    ahead.begin(Wrong(ahead._rollout.spec), steps=1)
    with pytest.raises(ValueError, match="illegal action 99"):
        ahead.finish()
    ahead.close()
