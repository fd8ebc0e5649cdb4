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
    if comes_back or name in ("_local_scalar_dense", "nonzero", "equal"):
        WAITS[name] += 1
    near_args, near_kwargs = tree_map_only(FarTensor, lambda tensor: tensor.near, (args, kwargs))
    if goal == "far":
        near_kwargs["device"] = torch.device("cpu")
    near_kwargs.pop("pin_memory", None)
    result = _FUSED.get(name, operation)(*near_args, **near_kwargs)
    if comes_back or name == "_local_scalar_dense":
        return result
    known = {id(tensor.near): tensor for tensor in tensors if isinstance(tensor, FarTensor)}
    return tree_map_only(Tensor, lambda near: known[id(near)] if id(near) in known else FarTensor(near), result)


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
