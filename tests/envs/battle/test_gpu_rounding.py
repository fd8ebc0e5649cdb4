"""That the GPU's code rounds as the CPU's does, without a GPU: it is read, and run on the CPU.

What a driver would be given is compiled and linked as on a machine with a GPU. The last step, from PTX to a GPU's own
instructions, is left out: there nothing is fused that PTX says is to be rounded (``.rn``).
"""

import math
import re
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from numba import config

from qmix_lightning.envs.registry import make
from tests.envs.battle import ptx
from tests.envs.battle.policies import random_legal
from tests.envs.battle.recordings import record, same

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'qmix-lightning[cuda]'")
if config.ENABLE_CUDASIM:
    pytest.skip("numba's CUDA simulator compiles nothing", allow_module_level=True)

from numba import cuda
from numba.cuda.cudadrv import driver, nvvm

from qmix_lightning.envs.battle import gpu

pytestmark = pytest.mark.skipif(
    not (nvvm.is_available() and driver._have_nvjitlink()),
    reason="compiler or linker for GPUs, NVVM or nvJitLink, is not installed: pip install 'numba-cuda[cu13]'",
)
needs_c = pytest.mark.skipif(ptx.C_COMPILER is None, reason="there is no C compiler to run the GPU's code with")

HOPPER = (9, 0)
"""The generation of an H100 or H200."""


class Driver:
    """As much of a driver as numba-cuda needs to compile: it says which GPU there is, and loads what it is given."""

    device = SimpleNamespace(compute_capability=HOPPER, id=0)

    def create_module_image(self, *_):
        function = SimpleNamespace(module=SimpleNamespace(initialized=True))
        return SimpleNamespace(get_function=lambda name: function)


class Launches:
    """Kernels that were launched, and their code, which the CPU runs."""

    def __init__(self, folder):
        self.folder, self.ready, self.code, self._programs = folder, {}, {}, {}

    def launcher(self, kernel, threads, stream, arguments):
        """A kernel that is ready to run; see gpu._launcher."""
        name = kernel.__name__
        self.ready[name] = gpu._specialised(kernel, arguments)
        (compiled,) = self.ready[name].overloads.values()
        self.code[name] = compiled.inspect_asm((*HOPPER, "a"))
        return lambda *arguments: self._program(name).run(threads, arguments) if ptx.C_COMPILER else None

    def _program(self, name):
        if name not in self._programs:
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            self._programs[name] = ptx.Program(self.code[name], folder)
        return self._programs[name]


def pretend(patch, folder):
    """Let there be a GPU, with its memory on the CPU, and no code for it yet but what is kept in a folder."""
    launches = Launches(folder)
    patch.setattr("numba.cuda.dispatcher.get_current_device", lambda: Driver.device)
    patch.setattr("numba.cuda.cudadrv.devices.get_context", Driver)
    patch.setattr("numba.cuda.core.config.CACHE_DIR", str(folder))
    patch.setattr(torch.cuda, "get_device_capability", lambda: HOPPER)
    patch.setattr("qmix_lightning.envs.battle.env.require_gpu", lambda: None)
    patch.setattr(gpu, "SIMULATED", True)  # of the arena's memory only, as kernels were made for a GPU when imported
    patch.setattr(gpu, "_READY", {})
    patch.setattr(gpu, "_launcher", launches.launcher)
    return launches


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """A GPU for the tests of this file, for which all kernels have been compiled."""
    _, units = record(make("battle/MMM", num_envs=2), 2)
    with pytest.MonkeyPatch.context() as patch:
        launched = pretend(patch, tmp_path_factory.mktemp("gpu"))
        with pytest.MonkeyPatch.context() as only_read:
            only_read.setattr(ptx, "C_COMPILER", None)
            env = make("battle/MMM", num_envs=2, device="cuda")
            env.reset()
            env.step(torch.ones(2, 10, dtype=torch.int64))
            env._arena.show()
            env.observe(units)
        yield launched


def arithmetic(code):
    """How often PTX has each of its instructions that may round."""
    return Counter(re.findall(r"\b(?:add|sub|mul|fma|mad|div|rcp|sqrt|rsqrt)(?:\.\w+)*\.f(?:32|64)\b", code))


def arc_tangent(result, x):
    result[0] = math.atan(x)


def unlike_a_cpu(code):
    """Arithmetic in PTX that may round unlike a CPU's, but for that in the arc tangents of NVIDIA's library."""
    of_one = strange(cuda.compile_ptx(arc_tangent, "void(float64[::1], float64)", cc=HOPPER)[0])
    number = code.count(".approx.")  # of arc tangents: each begins with an approximate reciprocal
    return strange(code) - Counter({name: number * times for name, times in of_one.items()})


def strange(code):
    """Arithmetic that is not rounded at once and to the nearest number."""
    rounded = r"(add|sub|mul|div|rcp|sqrt)\.rn\.f(32|64)"
    return Counter({name: times for name, times in arithmetic(code).items() if not re.fullmatch(rounded, name)})


@pytest.mark.parametrize("name", ["_restart", "_advance", "_show", "_see"])
def test_nothing_is_fused_and_no_quotient_or_root_approximate(name, launches):
    assert arithmetic(launches.code[name])["div.rn.f64"] > 0
    with gpu._unfused():
        assert unlike_a_cpu(launches.code[name]) == {}


def test_otherwise_products_would_be_fused_with_sums(launches, tmp_path, monkeypatch):
    fused = pretend(monkeypatch, tmp_path)
    monkeypatch.setattr(gpu, "_unfused", nullcontext)
    monkeypatch.setattr(ptx, "C_COMPILER", None)  # the code is only read
    make("battle/MMM", num_envs=2, device="cuda")._arena.show()
    with gpu._unfused():
        assert unlike_a_cpu(fused.code["_show"]) != {}


def test_a_compiler_that_cannot_be_told_is_left_as_it_is_and_the_reason_logged(monkeypatch, caplog):
    monkeypatch.delattr(nvvm, "compile_ir")
    with gpu._unfused():
        pass
    assert not hasattr(nvvm, "compile_ir")
    (line,) = caplog.messages
    assert line.startswith("Battles on a GPU are the CPU's up to rounding only: AttributeError: module")


def test_nothing_is_optimised_once_more_while_it_is_linked(launches):
    for special in launches.ready.values():
        (compiled,) = special.overloads.values()
        with pytest.raises(RuntimeError, match="LTO is not enabled"):
            compiled.inspect_lto_ptx(HOPPER)


def test_code_comes_from_disk_as_it_was_compiled(launches, monkeypatch):
    later = pretend(monkeypatch, launches.folder)
    monkeypatch.setattr(nvvm, "compile_ir", lambda *_, **__: pytest.fail("compiled anew"))
    make("battle/MMM", num_envs=2, device="cuda")._arena.show()
    assert later.code["_show"] == launches.code["_show"]


def test_nothing_is_fused_in_code_that_cannot_be_kept_either(launches, tmp_path, monkeypatch, caplog):
    def no_disk(self):
        raise OSError("no space left")

    later = pretend(monkeypatch, tmp_path)
    monkeypatch.setattr(type(gpu._show), "enable_caching", no_disk)
    monkeypatch.setattr(gpu._show, "specializations", {})
    monkeypatch.setattr(ptx, "C_COMPILER", None)
    make("battle/MMM", num_envs=2, device="cuda")._arena.show()
    assert caplog.messages == ["Code for the GPU is compiled anew in each process: OSError: no space left"]
    assert arithmetic(later.code["_show"]) == arithmetic(launches.code["_show"])


@needs_c
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("3m", {}), ("MMM", {}), ("bane_vs_bane", {}), ("2c_vs_64zg", {}), ("terran_5_vs_5", {}),
        ("3s_vs_3z", {"physics": "random", "enemy_order": "sorted"}),
    ],
)  # fmt: skip
def test_the_gpus_code_plays_the_cpus_battles_bit_for_bit(name, options, launches):
    envs = [make(f"battle/{name}", num_envs=3, seed=4, device=device, **options) for device in ("cpu", "cuda")]
    generator = torch.Generator().manual_seed(0)
    views, ended = [env.reset() for env in envs], 0
    for _ in range(40):
        action = random_legal(views[0], generator, fierce=0.7)
        outcomes = [env.step(action) for env in envs]
        assert same(*outcomes, keys=outcomes[0].keys(True, True))
        assert envs[0].units.tobytes() == envs[1].units.tobytes()
        done = outcomes[0]["done"][:, 0] | (torch.rand(3, generator=generator) < 0.05)
        ended += int(done.sum())
        views = [env.reset(done) for env in envs]
        assert same(*views, keys=views[0].keys(True, True))
    assert ended > 0


@needs_c
def test_the_gpus_code_sees_recorded_battles_again_bit_for_bit(launches):
    seen, units = record(make("battle/MMM", num_envs=2, seed=1), 3)
    assert same(seen, make("battle/MMM", device="cuda").observe(units))
