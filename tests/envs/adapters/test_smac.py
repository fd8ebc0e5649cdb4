"""The real packages, where they are installed, with the stand-in game in the place of StarCraft II.

In CI neither is there; tests/rollout/test_workers.py shows the same workers, deadlines and recovery with a fake game.
"""

import importlib.util
import logging
import math
import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest
import torch

from qmix_lightning.envs.adapters.smac import MAPS
from qmix_lightning.envs.checking import check_env
from qmix_lightning.envs.games.base import GameFaultError
from qmix_lightning.envs.registry import game, make
from qmix_lightning.rollout.batched import BatchedRollout
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.spec import ACTION_MASK, DONE, INFO, MASK, OBSERVATION, REWARD, STATE, TERMINATED

smac = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("smac", "pysc2")), reason="needs oxwhirl's smac and pysc2"
)
smacv2 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("smacv2", "pysc2")), reason="needs oxwhirl's smacv2"
)

SOON = Patience(reset_deadline=60.0, step_deadline=10.0, stagger=0.0, pause=0.0)


class RandomLegal:
    """Attacks whenever it can, so that battles are short."""

    def __init__(self, spec):
        self.spec = spec

    def initial_memory(self, battles):
        return torch.zeros(battles, self.spec.n_agents, 0)

    def act(self, observation, action_mask, last_action, memory, *, env_steps=None, generator=None):
        keys = torch.rand(action_mask.shape, generator=generator).masked_fill(~action_mask, -1.0)
        keys[..., 6:] += action_mask[..., 6:]
        return keys.argmax(-1), memory


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs the stand-in with a script; doing so again changes the next launches."""
    from tests.standin.install import install, launches

    monkeypatch.setenv("SC2PATH", str(tmp_path / "game"))

    def script(**options):
        return install(tmp_path / "game", [*MAPS, "32x32_flat"], **options)

    script.launches = lambda: launches(tmp_path / "game")
    script()
    return script


@pytest.fixture
def rollouts(installed):
    made = []

    def rollout(number=2, patience=SOON, name="smac/3m", **options):
        made.append(WorkerRollout(game(name, **options), number, patience=patience))
        return made[-1]

    yield rollout
    for each in made:
        each.close()


def collect(rollout, seconds=60, *, episodes=0, until=lambda: True):
    """Episodes of training, as many as asked for and until something has come to pass."""
    policy, played, began = RandomLegal(rollout.spec), [], time.monotonic()
    while (sum(map(len, played)) < episodes or not until()) and time.monotonic() < began + seconds:
        ended = rollout.step(policy, explore=True)
        played += [] if ended is None else [ended]
    return torch.cat(played)


def assert_whole(episodes):
    """Battles of 3m that began with everybody unhurt and ended by a decision or the limit, with SMAC's rewards."""
    steps = episodes[MASK].sum((1, 2))
    last = torch.arange(len(episodes)), steps - 1
    assert episodes[DONE][last].all()
    assert episodes[DONE].sum() == len(episodes)
    allies = episodes[STATE][:, 0, :12].view(-1, 3, 4)
    enemies = episodes[STATE][:, 0, 12:21].view(-1, 3, 3)
    assert (allies[..., 0] == 1).all()
    assert (enemies[..., 0] == 1).all()
    won = episodes[(*INFO, "battle_won")][last].bool()
    end = episodes[STATE][torch.arange(len(episodes)), steps]
    decided = ~end[:, :12:4].any(1) | ~end[:, 12:21:3].any(1)  # also in the very step that the limit ends
    assert torch.equal(episodes[TERMINATED][last][:, 0], decided)
    assert decided[steps < 60].all()
    # A reward of 20 to the win, whatever happened to the game before: its scale was not spoilt.
    earned = episodes[REWARD].sum((1, 2))
    assert torch.allclose(earned[won[:, 0]], torch.tensor(20.0), atol=1e-4)
    assert (earned[~won[:, 0]] < 20).all()


@smac
@pytest.mark.parametrize("task", ["3m", "8m", "27m_vs_30m"])
def test_sizes_and_first_sight_are_those_of_the_embedded_battle(task, installed):
    real, embedded = make(f"smac/{task}"), make(f"battle/{task}")
    for size in ("n_agents", "n_actions", "observation_size", "state_size", "episode_limit"):
        assert getattr(real.spec, size) == getattr(embedded.spec, size)
    assert real.info_keys == embedded.info_keys
    theirs, ours = embedded.reset(), real.reset()
    for key in (OBSERVATION, ACTION_MASK, STATE):
        assert (theirs[key].shape, theirs[key].dtype) == (ours[key].shape, ours[key].dtype)
    assert torch.equal(theirs[ACTION_MASK], ours[ACTION_MASK])
    real.close()


@smac
def test_the_contract_is_kept_also_when_battles_are_broken_off(installed):
    env = make("smac/3m", num_envs=1)
    check_env(env, steps=150, deterministic=False)
    assert installed.launches() == 1, "none of it needs another launch"
    env.close()


@smac
def test_a_battle_that_runs_out_of_time_is_cut_off_unless_pymarl_is_to_be_followed(installed):
    for option, decided in ((False, False), (True, True)):
        env = make("smac/3m", limit_terminates=option)
        env.reset()
        steps, outcome = 0, {"done": False}
        while not outcome["done"]:
            # Into the corner from which nobody is seen.
            legal = env._view[ACTION_MASK]
            outcome, steps = env.step(torch.where(legal[..., 5], 5, torch.where(legal[..., 3], 3, 1))), steps + 1
        assert steps == 60, "nobody was found"
        assert bool(outcome["terminated"]) == decided
        env.close()


@smac
def test_enemies_are_sorted_on_request(installed):
    installed(shuffle_enemies=True)
    env = make("smac/8m", sort_enemies=True)
    for _ in range(3):
        env.reset()
        enemies = [(unit.unit_type, unit.pos.x, unit.pos.y) for unit in env._games[0]._game.enemies.values()]
        assert enemies == sorted(enemies)
        env.step(torch.ones(1, 8, dtype=torch.int64))
    env.close()


@smac
def test_a_slow_spawn_does_not_spoil_the_scale_of_rewards(installed, rollouts):
    installed(respawn_delay=5)
    rollout = rollouts(1)
    assert_whole(collect(rollout, episodes=6))
    assert not rollout.restarts


@smac
def test_replays_are_saved_on_request(installed, rollouts, tmp_path):
    rollout = rollouts(2, replay_folder=str(tmp_path / "replays"))
    rollout.play(RandomLegal(rollout.spec), 4, seed=1)
    rollout.close()
    saved = sorted(path.name for path in (tmp_path / "replays").iterdir())
    assert 1 <= len(saved) <= 2
    assert all(name.startswith("smac-3m-") and name.endswith(".SC2Replay") for name in saved)


@smac
def test_versions_are_told(installed, rollouts):
    told = rollouts(1).versions
    assert {"smac", "pysc2", "s2clientprotocol", "protobuf", "StarCraft II", "map sha256"} == set(told)
    assert told["StarCraft II"] == "Base75689"


@smac
def test_unknown_options_and_versions_are_refused_with_the_known_ones(installed):
    with pytest.raises(ValueError, match=r"'smac/3m' has no option 'reward_spars'\. Did you mean 'reward_sparse'\?"):
        make("smac/3m", reward_spars=True)
    with pytest.raises(ValueError, match=r"game_version: Unknown game version: 1\.2\.3"):
        make("smac/3m", game_version="1.2.3")


# Of 3m, a launch is ping, create, join, game_info and observation, and a step is action, step and observation.
FAULTS = {
    "crash in step": {"crash_at": 40},
    "protocol error in step": {"error_at": 40},
    "crash in reset": {"crash_after": ["debug", "step"]},
    # SMAC by itself would go on with the units of the battle before.
    "crash in reset, at the first look": {"crash_after": ["debug", "step", "observation"]},
    "hang in step": {"hang_at": 40},
}


@smac
def test_units_that_are_left_of_the_battle_before_are_told(installed):
    installed(stale_looks=1)
    env = make("smac/3m")
    env.reset()
    env.step(torch.ones(1, 3, dtype=torch.int64))
    with pytest.raises(GameFaultError, match="stale units: of 6, 0 are hurt and 6 of the battle before"):
        env.reset()
    env.close()


@smac
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_of_the_game_costs_its_episode(case, installed, rollouts, caplog):
    # The first launch fails so; later ones are sound.
    installed(launches=[0], **FAULTS[case])
    rollout = rollouts(2, Patience(reset_deadline=60.0, step_deadline=3.0, stagger=0.5, pause=0.0))
    with caplog.at_level(logging.WARNING, "qmix_lightning.rollout"):
        episodes = collect(rollout, episodes=12, until=lambda: rollout.restarts.total() and installed.launches() > 2)
    assert rollout.restarts == {case.partition(",")[0]: 1}
    assert installed.launches() == 3
    assert_whole(episodes)
    assert len(caplog.messages) == 1
    assert len(rollout.play(RandomLegal(rollout.spec), 6, seed=1)) == 6


@smac
@pytest.mark.parametrize("fault", [{"crash_at": 8}, {"crash_at": 3}, {"die_at_launch": True}, {"wrong_id_at": 3}])
def test_faults_at_the_launch_and_in_the_first_episode_leave_later_ones_sound(fault, installed, rollouts):
    installed(launches=[0], **fault)
    rollout = rollouts(1, Patience(reset_deadline=60.0, step_deadline=10.0, stagger=0.0, pause=0.0))
    episodes = collect(rollout, episodes=8)
    assert rollout.restarts.total() == 1
    assert_whole(episodes)


class PortServer:
    """Tells pysc2 which port to launch the next game on: the first is taken by a program that is no game of ours.

    Where PORTSERVER_ADDRESS is set, portpicker asks there, with a line, and is answered by a line.

    Args:
        manners: What that program does with who connects to it: it "closes", as a game does that has a client, it is
            "silent", or it answers "404".
    """

    def __init__(self, manners):
        self._manners, self.address, self._stays = manners, f"@qmix-ports-{os.getpid()}-{time.monotonic_ns()}", []
        self._taken = socket.create_server(("127.0.0.1", 0))
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.bind("\0" + self.address[1:])
        self._asked.listen()
        self.given = []
        for work in (self._tell, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def close(self):
        for each in (self._taken, self._asked, *self._stays):
            with suppress(OSError):  # Who waits for a client must be told.
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _tell(self):
        with suppress(OSError):
            while True:
                client, _ = self._asked.accept()
                with client, socket.create_server(("127.0.0.1", 0)) as free:
                    self.given.append((free if self.given else self._taken).getsockname()[1])
                    client.recv(100)
                    client.sendall(b"%d\n" % self.given[-1])

    def _receive(self):
        with suppress(OSError):
            while True:
                client, _ = self._taken.accept()
                if self._manners == "404":
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                if self._manners == "silent":
                    self._stays.append(client)
                else:
                    client.close()


@smac
@pytest.mark.parametrize(
    ("manners", "reason"),
    [("closes", "ConnectError in reset"), ("404", "ConnectError in reset"), ("silent", "hang in reset")],
)
def test_a_port_that_somebody_else_has_costs_a_launch(manners, reason, installed, rollouts, monkeypatch, caplog):
    ports = PortServer(manners)
    monkeypatch.setenv("PORTSERVER_ADDRESS", ports.address)
    rollout = rollouts(2, Patience(reset_deadline=20.0, step_deadline=10.0, stagger=0.5, pause=0.0))
    with caplog.at_level(logging.WARNING, "qmix_lightning.rollout"):
        episodes = collect(rollout, episodes=12, until=lambda: rollout.restarts and len(ports.given) > 2)
    assert rollout.restarts == {reason: 1}
    # Counted where ports are asked for: pysc2 may end the game without one before it has come far enough to be counted.
    assert len(ports.given) == len(set(ports.given)) == 3, "the game that was made anew has another port"
    assert_whole(episodes)
    assert len(caplog.messages) == 1
    assert None not in rollout.pids
    ports.close()


@smac
def test_the_game_is_ended_with_its_worker(installed, rollouts):
    rollout = rollouts(2)
    collect(rollout, episodes=4, until=lambda: None not in rollout.pids)
    os.kill(rollout.pids[0], signal.SIGKILL)
    assert_whole(collect(rollout, episodes=6, until=lambda: installed.launches() == 3))
    assert sum(rollout.restarts.values()) == 1
    assert next(iter(rollout.restarts)).startswith("death in ")


@smac
def test_a_session_is_recycled_before_the_game_ends_it(installed, rollouts):
    installed(end_at_loop=150 * 8)
    rollout = rollouts(1, Patience(stagger=0.0, recycle_after=80))
    assert_whole(collect(rollout, episodes=12))
    assert set(rollout.restarts) == {"recycled"}


@smac
def test_the_win_rate_is_that_of_the_embedded_battle(installed, rollouts):
    # The stand-in plays the embedded simulator: what differs is StarCraft's protocol, SMAC's code, and the transport.
    real = rollouts(2)
    embedded = BatchedRollout(make("battle/3m", num_envs=64, seed=3))
    policy, number = RandomLegal(real.spec), 128
    wins = [float(rollout.play(policy, number, seed=5)[(*INFO, "battle_won")].sum()) for rollout in (real, embedded)]
    difference, spread = abs(wins[0] - wins[1]) / number, math.sqrt(2 * 0.25 / number)
    assert difference < 3 * spread


@smacv2
def test_the_second_smac_plays_with_teams_of_its_own(installed, monkeypatch):
    from qmix_lightning.envs.adapters.smacv2 import SmacV2Game

    made = WorkerRollout(SmacV2Game, 1, patience=SOON)
    spec = made.spec
    made.close()
    assert (spec.observation_size, spec.state_size, spec.n_actions) == (82, 120, 11)
    assert (spec.n_agents, spec.episode_limit) == (5, 200)
