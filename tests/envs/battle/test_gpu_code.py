"""What can be said of the GPU's code without a GPU: that numba-cuda compiles it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numba import config, typeof, types

from qmix_lightning.envs.battle.env import BattleEnvironment

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'qmix-lightning[cuda]'")


@pytest.mark.skipif(bool(config.ENABLE_CUDASIM), reason="numba's simulator compiles nothing")
def test_every_kernel_compiles_for_a_gpu(monkeypatch):
    from numba import cuda

    from qmix_lightning.envs.battle import gpu
    from qmix_lightning.envs.battle.faults import Faults
    from qmix_lightning.envs.battle.hindsight import Recording
    from qmix_lightning.envs.battle.state import seen
    from qmix_lightning.envs.battle.world import RULES

    # numba asks the driver for which GPU it should compile the functions that a kernel calls.
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: SimpleNamespace(compute_capability=(8, 0)))
    env = BattleEnvironment("MMM", num_envs=2)
    memory = env._arena.memory
    rules = np.frombuffer(memory.world.rules.tobytes(), RULES)
    memory = memory._replace(world=memory.world._replace(rules=rules, ground=np.ascontiguousarray(memory.world.ground)))
    calls = gpu.Calls(np.ones(2, bool), np.ones((2, 10), np.int64), Faults(2, torch.device("cpu")).rows.numpy())
    view = memory.views
    shown = seen(memory.battles, 7)
    recording = Recording(
        np.zeros((2, 5, 20, 7), np.float32), np.zeros((2, 5, 10), np.int64), np.ones((2, 5, 1), bool),
        np.ones(10, np.int64), *(np.zeros((2, 5, *array.shape[1:]), array.dtype) for array in view[:3]),
    )  # fmt: skip
    for kernel, *arguments in (
        (gpu._restart, memory, calls), (gpu._advance, memory, calls), (gpu._show, memory, calls),
        (gpu._see, memory, recording, gpu._Scratch(memory.battles, shown)),
    ):  # fmt: skip
        code, _ = cuda.compile_ptx(kernel.py_func, types.void(*map(typeof, arguments)), cc=(8, 0))
        assert ".visible .entry" in code
