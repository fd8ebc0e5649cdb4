import logging
import os
import signal
import socket
import time
from functools import partial

import pytest
import torch

from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.processes.process import exists
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    DONE,
    INFO,
    MASK,
    OBSERVATION,
    REWARD,
    STATE,
    TERMINATED,
)
from tests.fakes import CountingPolicy
from tests.games import LIMIT, CountingGame, length

SOON = Patience(reset_deadline=20.0, step_deadline=20.0, stagger=0.0, pause=0.0, close_deadline=2.0)


@pytest.fixture
def rollouts():
    """Makes rollouts of the fake game, and ends their processes."""
    made = []

    def make(num_games=3, patience=SOON, *, seed=0, replicas=1, rank=0, **options):
        factory = partial(CountingGame, **options)
        made.append(WorkerRollout(factory, num_games, seed=seed, patience=patience, replicas=replicas, rank=rank))
        return made[-1]

    yield make
    for rollout in made:
        rollout.close()


def collect(rollout, policy, steps, explore=True):
    return [episodes for _ in range(steps) if (episodes := rollout.step(policy, explore=explore)) is not None]


def play_until(reached, rollout, policy, seconds=20):
    """Play on until something has come to pass, and some steps more; the episodes that ended meanwhile."""
    played, began = [], time.monotonic()
    while not reached() and time.monotonic() < began + seconds:
        played += collect(rollout, policy, 10)
    return played + collect(rollout, policy, 20)


def makes(diary):
    return diary.read_text().count("make ")


def players(diary):
    """Processes that have played a step."""
    return {line.partition(" ")[2] for line in diary.read_text().splitlines() if line.startswith("step")}


def gone(group, seconds=5):
    began = time.monotonic()
    while exists(group) and time.monotonic() < began + seconds:
        time.sleep(0.01)
    return not exists(group)


def assert_whole(episodes):
    """Every episode is one that the fake game plays, from its first step to its last."""
    seed, number = episodes[STATE][:, 0, 0], episodes[STATE][:, 0, 1]
    steps = episodes[MASK].sum((1, 2))
    at = torch.arange(LIMIT + 1)
    seen, played = at <= steps[:, None], at < steps[:, None]
    assert torch.equal(episodes[MASK][..., 0], played)
    assert torch.equal(episodes[STATE][..., 2], at * seen)
    assert torch.equal(episodes[STATE][..., 0], seed[:, None] * seen)
    assert torch.equal(episodes[OBSERVATION][..., 0], (number[:, None, None] * seen[..., None]).expand(-1, -1, 3))
    assert torch.equal(episodes[OBSERVATION][..., 2], torch.arange(3.0) * seen[..., None])
    assert torch.equal(episodes[REWARD][..., 0], (at * played).float())
    assert torch.equal(episodes[DONE][..., 0], at == steps[:, None] - 1)
    assert torch.equal(episodes[TERMINATED][..., 0], (at == steps[:, None] - 1) & (steps[:, None] < LIMIT))
    assert torch.equal(episodes[(*INFO, "dead_allies")][..., 0], ((at + 1) * played).float())
    chosen = episodes[ACTION_MASK].gather(-1, episodes[ACTION][..., None])
    assert chosen.all(), "of padded steps action 0 is legal, and that is what was done"
    assert torch.equal(episodes[ACTION_MASK].sum(-1) == 1, ~seen[..., None].expand(-1, -1, 3))


def test_every_step_is_counted_once_and_handed_out_in_whole_episodes(rollouts):
    rollout = rollouts(num_games=4)
    assert isinstance(rollout, AbstractRollout)
    policy = CountingPolicy(rollout.spec)
    episodes = torch.cat(collect(rollout, policy, 60))
    assert (rollout.env_steps, rollout.episodes) == (240, len(episodes))
    assert_whole(episodes)
    assert 240 - 4 * LIMIT - 4 <= episodes[MASK].sum() <= 240 + 4
    assert not rollout.restarts


def test_the_policy_is_told_the_steps_so_far_only_when_it_may_explore(rollouts):
    rollout = rollouts(num_games=2)
    policy = CountingPolicy(rollout.spec)
    collect(rollout, policy, 3)
    assert set(policy.calls) == {0, 2, 4}
    policy.calls.clear()
    collect(rollout, policy, 3, explore=False)
    assert set(policy.calls) == {None}


def test_memory_and_last_action_belong_to_the_episode(rollouts):
    # CountingPolicy asserts it at every call.
    rollout = rollouts(num_games=3)
    assert len(torch.cat(collect(rollout, CountingPolicy(rollout.spec), 80))) > 40


def test_ranks_count_the_steps_of_all_and_share_out_an_evaluation(rollouts):
    ours = [rollouts(num_games=2, replicas=2, rank=rank) for rank in range(2)]
    policy = CountingPolicy(ours[0].spec)
    collect(ours[0], policy, 5)
    assert ours[0].env_steps == 20
    alone = rollouts(num_games=1).play(policy, 5, seed=3)
    shares = [rollout.play(policy, 5, seed=3) for rollout in ours]
    assert [len(share) for share in shares] == [3, 2]
    together = torch.empty(5)
    together[0::2], together[1::2] = shares[0][STATE][:, 0, 0], shares[1][STATE][:, 0, 0]
    assert torch.equal(together, alone[STATE][:, 0, 0])
    assert len(ours[1].play(policy, 1, seed=3)) == 0


def test_play_is_greedy_and_the_same_whoever_is_free(rollouts):
    few, many = rollouts(num_games=1), rollouts(num_games=4)
    policy = CountingPolicy(few.spec)
    ones, others = few.play(policy, 9, seed=5), many.play(policy, 9, seed=5)
    assert set(policy.calls) == {None}
    assert_whole(ones)
    for key in (MASK, REWARD, DONE, (*INFO, "battle_won")):
        assert torch.equal(ones[key], others[key])
    assert torch.equal(ones[STATE][:, 0, 0], others[STATE][:, 0, 0]), "of the same seeds, in the same order"
    assert (few.env_steps, few.episodes) == (0, 0)


def test_an_evaluation_lets_episodes_of_training_be_played_to_their_end(rollouts):
    rollout = rollouts(num_games=3)
    policy = CountingPolicy(rollout.spec)
    before = collect(rollout, policy, 2)
    policy.calls.clear()
    rollout.play(policy, 6, seed=1)
    assert {*policy.calls} <= {None, 6}
    after = collect(rollout, policy, 20)
    assert rollout.env_steps == 3 * 22
    episodes = torch.cat(before + after)
    assert_whole(episodes)
    # Of each process, training and evaluation took every episode between them: none was broken off.
    assert len(episodes) >= (66 - 3 * LIMIT) / LIMIT


def test_playing_nothing_is_refused(rollouts):
    rollout = rollouts()
    with pytest.raises(ValueError, match="episodes >= 1, got 0"):
        rollout.play(CountingPolicy(rollout.spec), 0, seed=0)


def test_episodes_begun_in_inference_mode_can_be_trained_on(rollouts):
    rollout = rollouts()
    policy = CountingPolicy(rollout.spec)
    with torch.inference_mode():
        played = rollout.play(policy, 2, seed=0)
        collect(rollout, policy, 2)
    episodes = torch.cat(collect(rollout, policy, 10))
    weight = torch.ones(3, requires_grad=True)
    ((episodes[OBSERVATION] @ weight).sum() + (played[OBSERVATION] @ weight).sum()).backward()
    assert weight.grad is not None


def test_counters_and_exploration_go_on_from_a_state_but_not_the_games(rollouts):
    first, second = rollouts(seed=1), rollouts(seed=9)
    policy = CountingPolicy(first.spec)
    collect(first, policy, 4)
    state = first.state_dict()
    assert not state["exact"]
    assert second.load_state_dict(state) is False
    assert (second.env_steps, second.seed) == (12, 1)
    second.start_anew(env_seed=7, seed=8)
    assert second.seed == 8


def test_an_illegal_action_is_refused_by_name(rollouts):
    rollout = rollouts(num_games=1)
    policy = CountingPolicy(rollout.spec)
    policy.act = lambda observation, mask, last, memory, **options: ((~mask).int().argmax(-1), memory)
    with pytest.raises(ValueError, match=r"Agent 0 of game 0 cannot take action 1; legal are \[0, 2, 3\]"):
        rollout.step(policy, explore=False)


FAULTS = {
    "crash in step": {"step 7": "crash"},
    "ConnectionError in step": {"step 7": "error"},
    "death in step": {"step 7": "die"},
    "hang in step": {"step 7": "hang"},
    "crash in reset": {"reset 4": "crash"},
    "death in reset": {"reset 4": "die"},
    "hang in reset": {"reset 4": "stop"},
    "crash in launch": {"make 1": "crash"},
    "death in launch": {"make 1": "die"},
    "hang in launch": {"make 1": "stop"},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_costs_its_own_episode_and_is_counted_and_logged_by_its_reason(reason, rollouts, tmp_path, caplog):
    diary, number = tmp_path / "diary", 3
    patience = Patience(reset_deadline=1.5, step_deadline=1.5, stagger=0.0, pause=0.0, close_deadline=2.0)
    rollout = rollouts(number, patience, diary=diary, faults=FAULTS[reason])
    policy = CountingPolicy(rollout.spec)
    with caplog.at_level(logging.WARNING, "qmix_lightning.rollout"):
        # Nobody waits for one that hangs, or for the one that takes its place.
        played = play_until(lambda: makes(diary) == number + 1 and rollout.restarts, rollout, policy)
        won, episodes = rollout.play(policy, 10, seed=2), torch.cat(played)
    assert rollout.restarts == {reason: 1}
    assert_whole(episodes)
    assert_whole(won)
    assert len(won) == 10, "as many as were asked for"
    assert makes(diary) == number + 1, "one process more than there are games"
    (told,) = caplog.messages
    assert told.startswith("Game ")
    assert f"of fake/counting: {reason} (" in told
    assert "Its episode is dropped, and the game is made anew now (fault 1 of its 1)." in told


def test_a_port_that_somebody_else_has_costs_a_launch(rollouts, tmp_path, caplog):
    diary, opened = tmp_path / "diary", [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [each.getsockname()[1] for each in opened]
    for free in (0, 2):  # The second game finds its port taken; who is made in its place gets another.
        opened[free].close()
    patience = Patience(reset_deadline=20.0, step_deadline=20.0, stagger=0.2, pause=0.0, close_deadline=2.0)
    rollout = rollouts(2, patience, diary=diary, ports=ports)
    policy = CountingPolicy(rollout.spec)
    with caplog.at_level(logging.WARNING, "qmix_lightning.rollout"):
        played = play_until(lambda: makes(diary) == 3 and len(players(diary)) == 2, rollout, policy)
    assert rollout.restarts == {"OSError in launch": 1}
    assert_whole(torch.cat(played))
    (told,) = caplog.messages
    assert "OSError in launch ([Errno 98] Address already in use" in told
    assert None not in rollout.pids
    opened[1].close()


def test_an_episode_of_an_evaluation_that_was_spoilt_is_played_again(rollouts, tmp_path):
    sound = rollouts(2)
    broken = rollouts(2, diary=tmp_path / "diary", faults={"step 3": "crash", "step 9": "die"})
    policy = CountingPolicy(sound.spec)
    expected, came = sound.play(policy, 8, seed=4), broken.play(policy, 8, seed=4)
    assert torch.equal(expected[STATE][:, 0, 0], came[STATE][:, 0, 0])
    assert torch.equal(expected[(*INFO, "battle_won")], came[(*INFO, "battle_won")])
    assert broken.restarts == {"crash in step": 1, "death in step": 1}


def test_nobody_waits_for_the_slowest(rollouts, tmp_path):
    diary = tmp_path / "diary"
    rollout = rollouts(3, diary=diary, faults={"step 200": 2.0})
    policy = CountingPolicy(rollout.spec)
    play_until(lambda: len(players(diary)) == 3, rollout, policy)
    began = time.monotonic()
    play_until(lambda: diary.read_text().count("step ") > 300, rollout, policy)
    assert time.monotonic() - began < 2.0
    assert not rollout.restarts


def test_a_worker_killed_from_outside_is_made_anew(rollouts, tmp_path):
    diary = tmp_path / "diary"
    rollout = rollouts(2, diary=diary, child=True)
    policy = CountingPolicy(rollout.spec)
    play_until(lambda: len(players(diary)) == 2, rollout, policy)
    victim = rollout.pids[1]
    os.kill(victim, signal.SIGKILL)
    assert_whole(torch.cat(play_until(lambda: len(players(diary)) == 3, rollout, policy)))
    assert [*rollout.restarts.values()] == [1]
    assert set(rollout.restarts) <= {"death in step", "death in reset"}, "whatever it was about"
    assert victim not in rollout.pids
    assert gone(victim), "with what it had started"


def test_a_game_that_keeps_failing_is_given_up_and_the_others_go_on(rollouts, tmp_path, caplog):
    # No process can be made but the first two.
    patience, diary = Patience(stagger=0.0, pause=0.0, retries=2), tmp_path / "diary"
    rollout = rollouts(2, patience, diary=diary, faults={"make 2": "crash", "make 3": "crash"})
    policy = CountingPolicy(rollout.spec)
    play_until(lambda: len(players(diary)) == 2, rollout, policy)
    os.kill(rollout.pids[0], signal.SIGKILL)
    assert_whole(torch.cat(play_until(lambda: rollout.restarts.total() == 3, rollout, policy)))
    assert rollout.restarts.pop("crash in launch") == 2
    assert rollout.restarts.keys() <= {"death in step", "death in reset"}, "whatever the game was about"
    assert "given up after 3 faults in a row" in caplog.text
    assert sum(pid is None for pid in rollout.pids) == 1
    assert len(rollout.play(policy, 5, seed=1)) == 5


def test_when_no_game_is_left_it_says_what_happened(rollouts, tmp_path):
    patience = Patience(stagger=0.0, pause=0.0, retries=1)
    rollout = rollouts(2, patience, diary=tmp_path / "diary", faults={"reset *": "crash"})
    told = r"No game of fake/counting is left to play: each failed 2 times in a row .*\(4 times crash in reset\)"
    with pytest.raises(RuntimeError, match=told):
        rollout.step(CountingPolicy(rollout.spec), explore=True)


def test_games_are_recycled_between_episodes(rollouts, tmp_path):
    diary = tmp_path / "diary"
    patience = Patience(stagger=0.0, recycle_after=10)
    rollout = rollouts(2, patience, diary=diary)
    assert_whole(torch.cat(collect(rollout, CountingPolicy(rollout.spec), 50)))
    assert set(rollout.restarts) == {"recycled"}
    assert 4 <= rollout.restarts["recycled"] <= 10
    lines = diary.read_text()
    assert lines.count("close ") == rollout.restarts["recycled"], "they may save what they have to"


def test_processes_and_what_they_started_end_with_close(rollouts):
    rollout = rollouts(2, child=True)
    play_until(lambda: None not in rollout.pids, rollout, CountingPolicy(rollout.spec))
    groups = rollout.pids
    assert all(exists(group) for group in groups)
    rollout.close()
    assert all(gone(group) for group in groups)
    rollout.close()


def test_a_world_that_cannot_be_made_is_refused_in_its_own_words(rollouts, tmp_path):
    with pytest.raises(ValueError, match=r"^There is no such world\.\nTake another\.$"):
        rollouts(diary=tmp_path / "diary", faults={"make 0": "refuse"})
    with pytest.raises(ValueError, match=r"The first game could not be made: death, its process ended \(signal 9\)"):
        rollouts(diary=tmp_path / "diary2", faults={"make 0": "die"})


def test_what_cannot_be_imported_elsewhere_is_refused():
    with pytest.raises(ValueError, match=r"can be imported, but .* cannot be sent .*Define it at the top of a module"):
        WorkerRollout(lambda seed: CountingGame(seed), 1)


def test_a_seed_of_an_episode_tells_its_length():
    assert [length(seed) for seed in range(6)] == [1, 2, 3, 4, 5, 1]
