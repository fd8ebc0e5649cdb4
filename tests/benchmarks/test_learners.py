"""The benchmarks against other projects' learners and against a loop without Lightning run, and are honest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import lightning_share
from benchmarks.__main__ import main
from benchmarks.learners import STAND_IN, assert_equal, episodes, make_learner
from benchmarks.peers import PEERS, Peer, PeerLearner
from qmix_lightning.spec import ACTION, ACTION_MASK, DONE, MASK, OBSERVATION, REWARD, STATE, TERMINATED

CONFIG = """
agent: rnn
mac: basic_mac
learner: q_learner
rnn_hidden_dim: 64
mixing_embed_dim: 32
hypernet_embed: 64
gamma: 0.99
lr: 0.0005
"""

LEARNER = '''
"""A learner of the layout that PyMARL's have: packages of common names, an args bag, train(batch, t_env, episode)."""

import copy
import torch
import utils
from components.episode_buffer import EpisodeBatch
from envs.world import nothing
from torch import nn


class Mixer(nn.Module):
    def __init__(self, args):
        super().__init__()
        s, n, e, h = args.state_shape, args.n_agents, args.mixing_embed_dim, args.hypernet_embed
        self.hyper_w_1 = nn.Sequential(nn.Linear(s, h), nn.ReLU(), nn.Linear(h, n * e))
        self.hyper_w_final = nn.Sequential(nn.Linear(s, h), nn.ReLU(), nn.Linear(h, e))
        self.hyper_b_1 = nn.Linear(s, e)
        self.V = nn.Sequential(nn.Linear(s, e), nn.ReLU(), nn.Linear(e, 1))

    def forward(self, values, state):
        weights = self.hyper_w_1(state).abs().unflatten(-1, (values.shape[-1], -1))
        hidden = nn.functional.elu(torch.einsum("btn,btne->bte", values, weights) + self.hyper_b_1(state))
        return (hidden * self.hyper_w_final(state).abs()).sum(-1, keepdim=True) + self.V(state)


class Learner:
    def __init__(self, mac, scheme, logger, args):
        self.mac, self.logger, self.args, self.mixer = mac, logger, args, Mixer(args)
        self.target_mac, self.target_mixer = copy.deepcopy(mac), copy.deepcopy(self.mixer)
        self.params = [*mac.agent.parameters(), *self.mixer.parameters()]
        self.optimizer = torch.optim.RMSprop(self.params, lr=args.lr, alpha=0.99, eps=1e-5)
        self.log_stats_t = 0

    def train(self, batch, t_env, episode):
        played = batch["filled"][:, :-1].float()
        played[:, 1:] *= 1 - batch["terminated"][:, :-2].float()
        values, target = self.mac.values(batch), self.target_mac.values(batch)
        value = self.mixer(values[:, :-1].gather(-1, batch["actions"][:, :-1]).squeeze(-1), batch["state"][:, :-1])
        best = values.detach().masked_fill(batch["avail_actions"] == 0, -1e9)[:, 1:].argmax(-1, keepdim=True)
        after = self.target_mixer(target[:, 1:].gather(-1, best).squeeze(-1), batch["state"][:, 1:]).detach()
        goal = batch["reward"][:, :-1] + utils.GAMMA * (1 - batch["terminated"][:, :-1].float()) * after
        loss = ((value - goal).square() * played).sum() / played.sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.args.grad_norm_clip)
        self.optimizer.step()
        if episode % self.args.target_update_interval == 0:
            self.target_mac.load_state(self.mac)
            self.target_mixer.load_state_dict(self.mixer.state_dict())
        if self.log_stats_t < t_env:
            self.logger.log_stat("loss", loss.item(), t_env)


REGISTRY = {"q_learner": Learner}
'''

CONTROLLER = """
import torch
from torch import nn


class Agent(nn.Module):
    def __init__(self, inputs, args):
        super().__init__()
        hidden = args.rnn_hidden_dim
        self.fc1, self.fc2 = nn.Linear(inputs, hidden), nn.Linear(hidden, args.n_actions)
        self.rnn = nn.GRUCell(hidden, hidden)


class Controller:
    def __init__(self, scheme, groups, args):
        self.n = args.n_agents
        self.agent = Agent(scheme["obs"]["vshape"] + scheme["actions_onehot"]["vshape"][0] + self.n, args)

    def load_state(self, other):
        self.agent.load_state_dict(other.agent.state_dict())

    def values(self, batch):
        agent, memory, values = self.agent, None, []
        last = batch["actions_onehot"].roll(1, 1)
        last[:, 0] = 0
        own = torch.eye(self.n).expand(*last.shape[:2], -1, -1)
        for x in torch.cat([batch["obs"], last, own], -1).unbind(1):
            memory = agent.rnn(agent.fc1(x).relu().flatten(0, 1), memory)
            values.append(agent.fc2(memory).unflatten(0, x.shape[:2]))
        return torch.stack(values, 1)


REGISTRY = {"basic_mac": Controller}
"""

BUFFER = """
import torch


class EpisodeBatch:
    def __init__(self, scheme, groups, batch_size, steps, preprocess):
        self.scheme, self.groups, self.data = scheme, groups, {}
        self.made, (transform,) = preprocess["actions"]
        self.scheme[self.made], self.transform = {"vshape": (transform.out_dim,)}, transform

    def update(self, data, mark_filled):
        self.data |= data | {self.made: self.transform.transform(data["actions"])}

    def __getitem__(self, key):
        return self.data[key]
"""

TRANSFORM = """
import torch


class OneHot:
    def __init__(self, out_dim):
        self.out_dim = out_dim

    def transform(self, actions):
        return torch.nn.functional.one_hot(actions.squeeze(-1), self.out_dim).float()
"""


def checkout(folder: Path, gamma: float = 0.99) -> Path:
    """A repository that is laid out as PyMARL's, whose QMIX discounts by ``gamma``."""
    files = {
        "config/default.yaml": CONFIG, "config/algs/qmix.yaml": "mixer: qmix", "utils/__init__.py": f"GAMMA = {gamma}",
        "learners/__init__.py": LEARNER, "controllers/__init__.py": CONTROLLER,
        "components/__init__.py": "", "components/episode_buffer.py": BUFFER, "components/transforms.py": TRANSFORM,
    }  # fmt: skip
    for name, text in files.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


PEER = Peer("PyMARL", PEERS[0].ours, unneeded=("envs", "envs.world"))


def rows_of(printed: str) -> list[list[str]]:
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_a_peer_that_learns_as_we_do_has_our_loss_and_our_gradients(tmp_path):
    spec, batch = episodes("3m", 3)
    assert_equal(PEER, checkout(tmp_path), spec, batch)


def test_a_peer_that_computes_something_else_is_found_out(tmp_path):
    spec, batch = episodes("3m", 3)
    with pytest.raises(AssertionError, match="Scalars are not close"):
        assert_equal(PEER, checkout(tmp_path, gamma=0.9), spec, batch)


def test_two_peers_with_packages_of_the_same_names_do_not_get_in_each_others_way(tmp_path):
    spec, batch = episodes("3m", 2)
    ours = make_learner(spec, PEER)
    before = set(sys.modules), list(sys.path)
    one, other = (
        PeerLearner(PEER, checkout(tmp_path / name, gamma), spec, batch, ours)
        for name, gamma in (("one", 0.99), ("other", 0.5))
    )
    assert one.loss() != other.loss()
    # What torch itself imports late does not count.
    packages = {"learners", "controllers", "components", "utils", "envs"}
    assert {name for name in set(sys.modules) - before[0] if name.partition(".")[0] in packages} == set()
    assert sys.path == before[1]
    assert not list(tmp_path.glob("**/__pycache__"))


def test_the_learners_print_a_row_for_each_map_and_size_and_say_who_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.learners.PEERS", (PEER, PEERS[1]))
    main(f"learners --pymarl {checkout(tmp_path)} --maps 3m 2s3z --batches 2 --updates 2".split())
    printed = capsys.readouterr().out
    assert [(row[0], row[1], row[2].split()[0]) for row in rows_of(printed)] == [
        ("PyMARL", "3m", "2"),
        ("PyMARL", "2s3z", "2"),
    ]
    assert "Without PyMARL2, whose checkout was not given: --pymarl2 PATH." in printed


def test_without_any_peer_there_are_no_rows(capsys):
    main(["learners", "--batches", "2"])
    printed = capsys.readouterr().out
    assert rows_of(printed) == []
    assert all(f"Without {peer.name}" in printed for peer in PEERS)


def test_a_folder_that_is_no_checkout_is_refused_by_name(tmp_path):
    spec, batch = episodes("3m", 2)
    with pytest.raises(FileNotFoundError, match=rf"Expected a checkout of PyMARL .*, got {tmp_path}"):
        PeerLearner(PEER, tmp_path, spec, batch, make_learner(spec, PEER))


@pytest.mark.skipif("QMIX_PEERS" not in os.environ, reason="QMIX_PEERS names no folder with checkouts")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("map_name", ["3m", "2s3z"])
def test_the_peers_themselves_have_our_loss_and_our_gradients(peer, map_name):
    spec, batch = episodes(map_name, 4)
    assert_equal(peer, Path(os.environ["QMIX_PEERS"]) / peer.name.lower(), spec, batch)


def test_episodes_end_with_the_longest_unless_they_are_padded():
    _, batch = episodes("3m", 4)
    spec, padded = episodes("3m", 4, padded=True)
    longest = int(padded[MASK].sum(1).max())
    assert (batch.shape, padded.shape) == ((4, longest + 1), (4, spec.episode_limit + 1))
    assert torch.equal(batch[STATE], padded[STATE][:, : longest + 1])


def test_made_up_episodes_have_the_sizes_of_their_task_and_end_where_they_end():
    spec, batch = episodes(STAND_IN.name, 3)
    assert batch[OBSERVATION].shape[2:] == (spec.n_agents, spec.observation_size)
    assert batch[STATE].shape[2:] == (spec.state_size,)
    assert batch[ACTION_MASK].gather(-1, batch[ACTION].unsqueeze(-1)).all()
    assert torch.equal(batch[DONE].sum(1), torch.ones(3, 1, dtype=torch.int64))
    assert torch.equal(batch[DONE].int().argmax(1) + 1, batch[MASK].sum(1))
    assert torch.equal(batch[DONE], batch[TERMINATED])
    assert not batch[REWARD][~batch[MASK]].any()


def test_lightnings_share_is_of_two_trainings_that_come_to_the_same_weights(capsys, monkeypatch):
    monkeypatch.setattr(lightning_share, "BLOCK", 2)
    few = ["--data.num_envs", "2", "--data.batch_size", "2"]
    cases = {name: [*arguments, *few] for name, arguments in lightning_share.CASES.items()}
    monkeypatch.setattr(lightning_share, "CASES", cases)
    main(["lightning", "--updates", "4"])
    rows = rows_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == list(cases)


def test_a_loop_that_does_something_else_is_no_measure_of_lightning(monkeypatch):
    monkeypatch.setattr(lightning_share, "CLIP", 1e-3)
    arguments = ["--data.env", "battle/3m", "--data.num_envs", "2", "--data.batch_size", "2"]
    with pytest.raises(AssertionError, match="not equal"):
        lightning_share.measure("", arguments, updates=2, warmup=0)
