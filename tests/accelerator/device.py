"""An accelerator without hardware: a device of torch's whose memory nobody else may touch.

Importing this registers it in torch for as long as the process lives, so tests that use it run in a process of their
own. Its tensors are kept on the CPU and computed there, but torch takes them for those of a device ``"far"``: an
operation on tensors of both is refused as on a GPU, numpy cannot read them, and whatever makes the host wait for the
device is counted.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

if "QMIX_LIGHTNING_FAR_DEVICE" not in os.environ:  # pytest looks for doctests here, in the process of all other tests
    pytest.skip("test_without_hardware.py has a process for this device", allow_module_level=True)

_setup_privateuseone_for_python_backend("far")

DEVICE = torch.device("far:0")
WAITS: Counter[str] = Counter()
"""How often the host asked the device for numbers, by the operation that did."""


class FarTensor(Tensor):
    """A tensor on the device; ``near`` is its memory."""

    @staticmethod
    def __new__(cls, near):
        return Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            layout=near.layout, device=DEVICE,
        )  # fmt: skip

    def __init__(self, near):
        self.near = near

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation, args, kwargs):
    """Compute an operation of which a tensor, or the result, is on the device."""
    name = operation.name().removeprefix("aten::").split(".")[0]
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    mixed = [tensor for tensor in tensors if not isinstance(tensor, FarTensor) and tensor.dim() > 0]
    if mixed and name not in ("copy_", "_to_copy", "_foreach_copy_"):
        raise RuntimeError(f"{name}: expected all tensors on {DEVICE}, got one of {list(mixed[0].shape)} on the CPU")
    goal = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    comes_back = (name == "_to_copy" and goal == "cpu") or (name == "copy_" and not isinstance(args[0], FarTensor))
    waits = comes_back or name in ("_local_scalar_dense", "nonzero", "equal")
    sent = name in ("copy_", "_to_copy") and not all(isinstance(tensor, FarTensor) for tensor in tensors)
    if RECORDING is not None and (waits or sent):
        raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
    if waits:
        WAITS[name] += 1
    near_args, near_kwargs = tree_map_only(FarTensor, lambda tensor: tensor.near, (args, kwargs))
    if goal == "far":
        near_kwargs["device"] = torch.device("cpu")
    near_kwargs.pop("pin_memory", None)
    function = _FUSED.get(name, operation)
    if RECORDING is None:
        result = function(*near_args, **near_kwargs)
    else:
        result = RECORDING.add(function, near_args, near_kwargs, written(operation, near_args, near_kwargs))
    if comes_back or name == "_local_scalar_dense":
        return result
    known = {id(tensor.near): tensor for tensor in tensors if isinstance(tensor, FarTensor)}
    return tree_map_only(Tensor, lambda near: known[id(near)] if id(near) in known else FarTensor(near), result)


def written(operation, args, kwargs):
    """The tensors that an operation says it changes."""
    named = dict(zip((argument.name for argument in operation._schema.arguments), args, strict=False)) | kwargs
    changed = [a.name for a in operation._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return [leaf for name in changed for leaf in tree_flatten(named.get(name))[0] if isinstance(leaf, Tensor)]


def launch(kernel):
    """Run a kernel that is no operation of torch's, in the order of those that are."""
    if RECORDING is None:
        kernel()
    else:
        RECORDING.operations.append(kernel)


class FarGraph:
    """Operations recorded as CUDA records them: for their shapes only, without an effect, and without Python between.

    What is drawn from a generator of the CPU is drawn anew in each replay, since the operation that draws is replayed.
    """

    def __init__(self, device):
        self.operations, self._before = [], {}

    def rehearse(self, step):
        step()

    def capture(self, step, generators):
        global RECORDING
        states, RECORDING = [generator.get_state() for generator in generators], self
        try:
            step()
        except Exception as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        finally:
            RECORDING = None
            for memory, content in self._before.values():
                memory.copy_(content)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            self._before.clear()

    def replay(self):
        for operation in self.operations:
            operation()

    def beside(self):
        return FarGraph(None)

    def add(self, function, args, kwargs, changed):
        """Record an operation; its result, which is in the memory that all replays will write to."""
        for memory in (tensor.untyped_storage() for tensor in changed):
            self._before.setdefault(memory.data_ptr(), (memory, memory.clone()))
        result = function(*args, **kwargs)
        kept = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]

        def again():
            made = [leaf for leaf in tree_flatten(function(*args, **kwargs))[0] if isinstance(leaf, Tensor)]
            for old, new in zip(kept, made, strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor changed in place
                    old.copy_(new)

        self.operations.append(again)
        return result


RECORDING: FarGraph | None = None


def _gru_cell(x, m, memory, x_bias=None, m_bias=None):
    """torch's GRU cell of accelerators, which it has no code for on a CPU; also what its backward needs."""
    if x_bias is not None:
        x, m = x + x_bias, m + m_bias
    (x_reset, x_update, x_new), (m_reset, m_update, m_new) = x.chunk(3, 1), m.chunk(3, 1)
    reset, update = (x_reset + m_reset).sigmoid(), (x_update + m_update).sigmoid()
    new = (x_new + reset * m_new).tanh()
    return new + update * (memory - new), torch.cat([reset, update, new, memory, m_new], 1)


def _gru_cell_backward(gradient, kept, has_bias):
    reset, update, new, memory, m_new = kept.chunk(5, 1)
    of_new = gradient * (1 - update) * (1 - new * new)
    of_update = gradient * (memory - new) * update * (1 - update)
    of_reset = of_new * m_new * reset * (1 - reset)
    of_x, of_m = (torch.cat([of_reset, of_update, last], 1) for last in (of_new, of_new * reset))
    return of_x, of_m, gradient * update, *((of_x.sum(0), of_m.sum(0)) if has_bias else (None, None))


_FUSED = {"_thnn_fused_gru_cell": _gru_cell, "_thnn_fused_gru_cell_backward": _gru_cell_backward}

_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda operation, *args, **kwargs: compute(operation, args, kwargs), "PrivateUse1")


def _sent(make):
    """torch.tensor cannot make tensors of a device that is written in Python."""

    def made(*args, device=None, **kwargs):
        far = device is not None and torch.device(device).type == "far"
        return make(*args, **kwargs).to(DEVICE) if far else make(*args, device=device, **kwargs)

    return made


torch.tensor, torch.as_tensor = _sent(torch.tensor), _sent(torch.as_tensor)


def moved(module):
    """A module with its parameters and buffers on the device."""
    # Module.to would put them into the old parameters, which torch only does between tensors of the same class.
    for part in module.modules():
        for name, parameter in part._parameters.items():
            part._parameters[name] = None if parameter is None else torch.nn.Parameter(parameter.detach().to(DEVICE))
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(DEVICE)
    return module
