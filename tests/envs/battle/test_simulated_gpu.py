import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qmix_lightning.envs.battle.driver import what_is_missing
from qmix_lightning.envs.battle.env import BattleEnvironment

ROOT = Path(__file__).parents[3]


def test_the_tests_of_the_gpu_pass_under_numbas_cuda_simulator():
    settings = {"NUMBA_ENABLE_CUDASIM": "1", "OMP_NUM_THREADS": "1"}  # read when numba is imported
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/envs/battle/test_gpu.py")
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_is_said_what_is_missing():
    with pytest.raises(RuntimeError, match=r"Battles on device 'cuda' need an NVIDIA GPU, but torch .*"):
        BattleEnvironment("3m", device="cuda")


@pytest.mark.parametrize(
    ("cuda_of_torch", "torch_sees", "trouble", "told"),
    [
        (None, False, "", "was built without CUDA. Install one with it: pip install torch"),
        ("12.8", False, "", "torch, built for CUDA 12.8, finds no GPU. nvidia-smi shows"),
        ("12.8", True, "no NVVM", "numba cannot compile for it: no NVVM. pip install 'numba-cuda[cu12]'"),
    ],
)
def test_every_missing_part_has_its_cure(cuda_of_torch, torch_sees, trouble, told):
    assert told in what_is_missing(cuda_of_torch, torch_sees, trouble)


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="Battles are fought on device 'cpu' or 'cuda', got 'meta'"):
        BattleEnvironment("3m", device="meta")
