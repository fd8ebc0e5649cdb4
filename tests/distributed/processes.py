"""Runs a function of a test in several processes that know each other by gloo, and brings back what each returned."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells each of its processes."""
    told = {
        "TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
        "JSONARGPARSE_DEPRECATION_WARNINGS": "off",
    }  # fmt: skip
    return {**os.environ, **{name: str(value) for name, value in told.items()}}


def in_processes(size: int, function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Call ``function(folder, *args)`` in ``size`` processes; what each returns, by rank."""
    port = free_port()
    call = pickle.dumps((function.__module__, function.__name__, folder, args))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.processes", call.hex(), str(folder / f"returned{rank}")],
            cwd=ROOT, env=environment(rank, size, port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [process.communicate(timeout=240)[0] for process in running]
    for rank, process in enumerate(running):
        assert process.returncode == 0, f"rank {rank} failed:\n{said[rank][-3000:]}"
    return [pickle.loads((folder / f"returned{rank}").read_bytes()) for rank in range(size)]


def _called() -> None:
    import logging
    from importlib import import_module

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module, name, folder, args = pickle.loads(bytes.fromhex(sys.argv[1]))
    returned = getattr(import_module(module), name)(folder, *args)
    Path(sys.argv[2]).write_bytes(pickle.dumps(returned))


if __name__ == "__main__":
    _called()
