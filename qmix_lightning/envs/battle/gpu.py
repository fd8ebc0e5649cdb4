"""Battles fought on a GPU: one thread a battle, by the same functions as on the CPU.

numba compiles the simulator's functions for the GPU when a kernel here calls them. All memory is torch's and stays
where it is, and everything runs on torch's current stream, so that steps can be captured in a CUDA graph once a first
one has compiled them.

They are the CPU's battles, bit for bit: both processors round every sum, product, quotient and square root to the
nearest number, and code for the GPU is compiled without multiply-adds, which round only once (:func:`_unfused`). Only
cones (``conic_fov``) ask for more, an arc tangent, whose last bits are NVIDIA's here and the C library's there.

Under numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``, set before numba is imported) the kernels run as Python on the
CPU, and call the machine code of the CPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from inspect import signature
from threading import RLock
from types import FunctionType
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import cuda
from numba.core import config
from torch import Tensor

from qmix_lightning.envs.battle.arena import Arena, Memory, tensors_of
from qmix_lightning.envs.battle.compiling import SOURCES, subroutine
from qmix_lightning.envs.battle.engine import advance, restart
from qmix_lightning.envs.battle.faults import Faults
from qmix_lightning.envs.battle.hindsight import Recording, see_step
from qmix_lightning.envs.battle.observation import show
from qmix_lightning.envs.battle.physics import LAWS
from qmix_lightning.envs.battle.state import CLOCK, UNIT
from qmix_lightning.envs.battle.world import RULES, World

_LOG: Final = logging.getLogger("qmix_lightning.gpu")

SIMULATED: Final = bool(config.ENABLE_CUDASIM)
"""Whether numba's simulator stands in for a GPU."""

ALONE: Final = 1_024
"""Threads up to which each has a warp of its own: those of a warp wait for each other wherever they do different
things, which takes twice the time. But no more warps than that get on side by side."""

WARP: Final = 32
"""Threads of a full warp, and of a block where there are more."""

SEEN_AT_ONCE: Final = 16_384
"""Threads that look at recorded battles; each needs the memory of a battle."""

_OPTIONS: Final = {"lto": False} if "lto" in signature(cuda.jit).parameters else {}
"""Code that is optimised once more while it is linked is fused then, whatever NVVM was told; see :func:`_unfused`."""

_COMPILING: Final = RLock()


class Calls(NamedTuple):
    """What a call of a kernel is told, always at the same place, as a graph needs it."""

    which: Any  # [B] bool, battles to start anew
    actions: Any  # [B, N] int64
    faults: Any  # [B, 2] int64, an agent that chose what is illegal, counted from 1, and what it chose


def _kernel(function: Callable[..., None]) -> Any:
    """Compile a function that is called on the GPU by many threads.

    Its arguments are tuples of arrays: the simulator leaves those as they are, where it would wrap bare arrays so that
    compiled functions do not know them any more.
    """
    # After which the file of its code is named: see SOURCES.
    function.__qualname__ += f"_{SOURCES:08x}"
    return cuda.jit(function, **_OPTIONS)


def _for_a_thread(kernel: Any) -> Any:
    """A kernel of the CPU, as a thread of the GPU calls it for a battle of its own.

    There it has no last argument: GPUs know no defaults, and only the machine code of CPUs is kept on disk.
    """
    if SIMULATED:
        return kernel
    function, code = kernel.py_func, kernel.py_func.__code__
    shorter = FunctionType(code.replace(co_argcount=code.co_argcount - 1), function.__globals__, function.__name__)
    return cuda.jit(shorter, device=True)


_restart_battles, _advance_battles, _show_battles = (_for_a_thread(kernel) for kernel in (restart, advance, show))


@_kernel
def _restart(memory: Any, calls: Any) -> None:
    b = cuda.grid(1)
    if b < memory.battles.shape[0]:
        _restart_battles(
            memory.battles, memory.world, memory.laws, memory.clocks, memory.lineup, memory.views, calls.which, b, b + 1
        )


@_kernel
def _advance(memory: Any, calls: Any) -> None:
    b = cuda.grid(1)
    if b < memory.battles.shape[0]:
        replace_illegal(memory.views.action_mask[b], calls.actions[b], calls.faults[b])
        _advance_battles(
            memory.battles, memory.world, memory.laws, memory.clocks, memory.views, calls.actions, b, b + 1
        )


@_kernel
def _show(memory: Any, calls: Any) -> None:
    b = cuda.grid(1)
    if b < memory.battles.shape[0]:
        w = memory.world  # put together here, because a kernel is given no record but in an array
        world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
        _show_battles(memory.battles, world, memory.clocks, memory.views, b, b + 1)


@_kernel
def _see(memory: Any, recording: Any, scratch: Any) -> None:
    w = memory.world  # put together here, because a kernel is given no record but in an array
    world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
    n_steps, thread = recording.units.shape[1], cuda.grid(1)
    for at in range(thread, recording.units.shape[0] * n_steps, cuda.gridsize(1)):
        see_step(recording, scratch.battles[thread], scratch.shown[thread], world, at // n_steps, at % n_steps)


class _Scratch(NamedTuple):
    """Battles to write recorded ones into, one a thread."""

    battles: Any  # [T, U] UNIT
    shown: Any  # [T, U, F] float32, the fields of them that are recorded


@subroutine
def replace_illegal(action_mask: Any, actions: Any, fault: Any) -> None:
    """Replace the illegal actions of a battle by the first legal ones, and write one of them down in its ``fault``."""
    for agent in range(actions.shape[0]):
        action = actions[agent]
        if not (0 <= action < action_mask.shape[1] and action_mask[agent, action]):
            fault[0], fault[1] = agent + 1, action
            legal = 0
            while not action_mask[agent, legal]:
                legal += 1
            actions[agent] = legal


class GpuArena(Arena):
    """Battles in the memory of a GPU.

    Args:
        memory: The battles before their first start, as numpy arrays.
        device: Which GPU.
    """

    def __init__(self, memory: Memory, device: torch.device) -> None:
        index = 0 if SIMULATED else torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cpu") if SIMULATED else torch.device("cuda", index)
        self._launchers: dict[tuple[Any, int, int], Any] = {}
        number, n_agents = memory.views.last_action.shape
        self.tensors = {name: tensor.to(self.device) for name, tensor in tensors_of(memory).items()}
        records = {"battles": UNIT, "clocks": CLOCK, "laws": LAWS}
        fixed = {"world": self._world(memory.world), "lineup": self._moved(memory.lineup)}
        with self._guard():
            self.memory = memory._replace(
                **{name: _array(self.tensors[name], kind) for name, kind in records.items()},
                views=memory.views._replace(**{name: _array(self.tensors[name]) for name in memory.views._fields}),
                **fixed,
            )
            self._which = torch.ones(number, dtype=torch.bool, device=self.device)
            self._actions = torch.ones(number, n_agents, dtype=torch.int64, device=self.device)
            self._faults = Faults(number, self.device)
            self._calls = Calls(_array(self._which), _array(self._actions), _array(self._faults.rows))

    def restart(self, which: Tensor | None) -> None:
        """Start battles anew; raises what the steps before had to object to."""
        if which is None:
            self._faults.settle()
            self._which.fill_(True)
        else:
            self.look()
            self._which.copy_(which, non_blocking=True)
        self._launch(_restart, len(self._which), self.memory, self._calls)

    def advance(self, actions: Tensor) -> None:
        """Play one environment step of every battle, without waiting for it.

        An illegal action is replaced by the first legal one; :meth:`restart` or :meth:`settle` raise it later.
        """
        self._actions.copy_(actions, non_blocking=True)
        self._launch(_advance, len(self._which), self.memory, self._calls)

    def show(self) -> None:
        """Write what is seen of the battles as they stand."""
        self._launch(_show, len(self._which), self.memory, self._calls)

    def see(self, recording: Recording) -> None:
        """Write what was seen in recorded battles."""
        (episodes, steps, n_units, n_fields), size = recording.units.shape, UNIT.itemsize
        threads = min(episodes * steps, SEEN_AT_ONCE)
        if threads == 0:
            return
        threads = -(-threads // _a_block(threads)) * _a_block(threads)
        scratch = torch.zeros(threads, n_units * size, dtype=torch.uint8, device=self.device)
        shown = torch.unflatten(scratch.view(torch.float32), 1, (n_units, -1))[..., :n_fields]
        with self._guard():
            arrays = Recording(*map(_array, recording))
            battles = _Scratch(_array(scratch, UNIT), _array(shown))
        self._launch(_see, threads, self.memory, arrays, battles)

    def look(self) -> None:
        """Raise an action that is known by now to have been illegal, without waiting for the steps played so far."""
        self._faults.look()

    def settle(self) -> None:
        """Wait for the steps played so far, and raise an action in them that was illegal."""
        self._faults.settle()

    def _launch(self, kernel: Any, threads: int, *arguments: Any) -> None:
        """Run a kernel on torch's current stream."""
        with self._guard():
            stream = 0 if SIMULATED else torch.cuda.current_stream().cuda_stream
            if (kernel, threads, stream) not in self._launchers:
                self._launchers[kernel, threads, stream] = _launcher(kernel, threads, stream, arguments)
            self._launchers[kernel, threads, stream](*arguments)

    def _guard(self) -> Any:
        return nullcontext() if SIMULATED else torch.cuda.device(self.device)

    def _world(self, world: World) -> World:
        rules: Any = np.frombuffer(world.rules.tobytes(), RULES)
        moved: World = self._moved(world._replace(rules=rules, variety=len(world.types)))
        return moved

    def _moved(self, parts: Any) -> Any:
        """A named tuple with its arrays copied to the GPU, and its numbers as they are."""
        with self._guard():
            return type(parts)(*(self._copied(p) if isinstance(p, np.ndarray) else p for p in parts))

    def _copied(self, array: Any) -> Any:
        array = np.ascontiguousarray(array)
        if array.size == 0:  # There is no memory to share.
            return array if SIMULATED else cuda.device_array(array.shape, array.dtype)
        if array.dtype.names:
            flat = torch.from_numpy(array.view(np.uint8).copy()).to(self.device)
            return _array(flat, array.dtype)
        return _array(torch.from_numpy(array).to(self.device, copy=True))


def _a_block(threads: int) -> int:
    """Threads in a block."""
    return 1 if threads <= ALONE else WARP


def _launcher(kernel: Any, threads: int, stream: int, arguments: tuple[Any, ...]) -> Any:
    """A kernel that is ready to run: specialised to its arguments, it does not look at their types in every call."""
    block = _a_block(threads)
    with warnings.catch_warnings():
        # Few battles do not fill a GPU. The warning's class is numba-cuda's own, and its words are in bold.
        warnings.filterwarnings("ignore", ".*Grid size")
        ready = kernel.specialize(*arguments) if SIMULATED else _specialised(kernel, arguments)
        return ready[-(-threads // block), block, cuda.external_stream(stream) if stream else 0]


def _specialised(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """As ``kernel.specialize`` does, which compiles anew in each process, but with code that is kept on disk."""
    key = kernel, torch.cuda.get_device_capability(), tuple(map(kernel.typeof_pyval, arguments))
    if key not in _READY:
        special = type(kernel)(kernel.py_func, targetoptions=kernel.targetoptions)
        with _unfused():
            try:
                special.enable_caching()
                special.compile(key[-1])
            except Exception as error:  # whatever a disk, or another version of numba-cuda, has against it
                _LOG.warning("Code for the GPU is compiled anew in each process: %s: %s", type(error).__name__, error)
                special = kernel.specialize(*arguments)
        special.disable_compile()
        special._specialized = True
        _READY[key] = special
    return _READY[key]


_READY: Final[dict[Any, Any]] = {}
"""Kernels by the GPU's generation and the types of their arguments."""


@contextmanager
def _unfused() -> Iterator[None]:
    """Meanwhile, compile products to be rounded before something is added to them, as the CPU's are.

    NVVM fuses the two unless told otherwise (``-fma=0``), and numba-cuda has no option for it.
    """
    with _COMPILING:  # or one thread would take back what another one's code is still to be compiled with
        nvvm: Any = None
        try:
            nvvm = import_module("numba.cuda.cudadrv.nvvm")
            compile_ir, nvvm.compile_ir = nvvm.compile_ir, partial(nvvm.compile_ir, fma=0)
        except (ImportError, AttributeError) as error:  # another version of numba-cuda
            _LOG.warning("Battles on a GPU are the CPU's up to rounding only: %s: %s", type(error).__name__, error)
            nvvm = None
        try:
            yield
        finally:
            if nvvm is not None:
                nvvm.compile_ir = compile_ir


def _array(tensor: Tensor, dtype: np.dtype[Any] | None = None) -> Any:
    """A tensor as an array of the same memory; of its bytes, the last axis is read as records of this type."""
    if dtype is None:
        return tensor.numpy() if SIMULATED else cuda.as_cuda_array(tensor)
    flat = tensor.flatten()
    records = (flat.numpy() if SIMULATED else cuda.as_cuda_array(flat)).view(dtype)
    per_row = tensor.shape[1] // dtype.itemsize if tensor.dim() > 1 else 1
    return records if per_row == 1 else records.reshape(len(tensor), per_row)
