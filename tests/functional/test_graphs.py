"""Steps that are replayed, on a GPU; tests/accelerator has the same on a device that is written in Python."""

import pytest
import torch
from torch import Generator

from qmix_lightning.envs.registry import make
from qmix_lightning.functional.graphs import GRAPHS, REHEARSALS, CudaGraph, ReplayedStep
from qmix_lightning.module import QLearner
from qmix_lightning.rollout.batched import BatchedRollout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def test_gpus_have_graphs_and_cpus_have_none():
    assert dict(GRAPHS) == {"cuda": CudaGraph}


@needs_gpu
def test_each_replay_draws_new_numbers_which_are_those_of_called_steps():
    device, sums = torch.device("cuda", 0), []
    for called in (False, True):
        generator, total = Generator(device).manual_seed(1), torch.zeros(3, device=device)

        def step(generator=generator, total=total):
            total.mul_(0.5).add_(torch.rand(3, device=device, generator=generator))

        replayed = step if called else ReplayedStep(step, device, [generator])
        for _ in range(REHEARSALS + 5):
            replayed()
        sums.append(total)
    assert torch.equal(*sums)


@needs_gpu
def test_a_recording_that_breaks_off_leaves_numbers_to_be_drawn(caplog):
    device = torch.device("cuda", 0)
    generator, total = Generator(device).manual_seed(1), torch.zeros(3, device=device)

    def step():
        total.add_(torch.rand(3, device=device, generator=generator))
        total.sum().item()

    replayed = ReplayedStep(step, device, [generator])
    for _ in range(REHEARSALS + 5):
        replayed()
    assert replayed.replays == 0
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.rand(3, device=device)
    again = Generator(device).manual_seed(1)
    expected = sum(torch.rand(3, device=device, generator=again) for _ in range(REHEARSALS + 5))
    torch.testing.assert_close(total, expected)
    assert len(caplog.records) == 1


@needs_gpu
def test_replayed_battles_are_those_of_called_ones():
    learner, played = QLearner(make("battle/3m").spec).cuda(), []
    for replayable in (True, False):
        env = make("battle/3m", num_envs=8, seed=5, device="cuda")
        env.replayable = replayable
        rollout = BatchedRollout(env, seed=2)
        played.append([rollout.step(learner, explore=True, times=times) for times in (1, 40, 80)][-1])
    assert (played[0] == played[1]).all()
