"""Parts of a network that kernels read the parameters of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qmix_lightning.functional.compiling import readable


class Bound:
    """Parts of a module, for as long as they and their parameters or buffers stay where they are.

    To look parameters up, transpose them and read them from numpy takes a third of a step of few battles; to see that
    they are where they were, a thirtieth.

    Args:
        owner: The module; None binds nothing.
        kinds: What kind of module each of its parts must be, by name. Where one is anything else, such as a layer whose
            weight is computed anew in every call, nothing is bound.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3))
        >>> bound = Bound(network, {"0": nn.Linear})
        >>> before = bound.stays(), network.double()
        >>> before[0], bound.stays()
        (True, False)
    """

    def __init__(self, owner: nn.Module | None = None, kinds: Mapping[str, type[nn.Module]] | None = None) -> None:
        self._parts: list[tuple[dict[str, Any], str, nn.Module]] = []
        for name, kind in ({} if owner is None or kinds is None else kinds).items():
            path, _, last = name.rpartition(".")
            siblings = owner.get_submodule(path)._modules  # type: ignore[union-attr]
            part = siblings.get(last)
            if type(part) is not kind:
                self._parts = []
                break
            self._parts.append((siblings, last, part))
        # Those of a target network are buffers.
        kept = [slot for *_, part in self._parts for slot in (part._parameters, part._buffers)]
        self._slots = [(slot, name) for slot in kept for name in slot]
        self._children = [(part._modules, len(part._modules)) for *_, part in self._parts]
        self._places = self._now()

    def stays(self) -> bool:
        """Whether all are the parts and the tensors that they were, in the same memory; False if nothing is bound."""
        for siblings, name, part in self._parts:
            if siblings.get(name) is not part:
                return False
        for children, number in self._children:
            if len(children) != number:
                return False
        return bool(self._slots) and self._now() == self._places

    def watched(self) -> bool:
        """Whether somebody looks at what goes through the parts, or changes it."""
        return any(part._forward_hooks or part._forward_pre_hooks for *_, part in self._parts)

    def readable(self) -> bool:
        """Whether kernels may read the parameters; False if nothing is bound."""
        tensors = [tensor for slot, name in self._slots if (tensor := slot[name]) is not None]
        return bool(tensors) and readable(*tensors)

    def _now(self) -> list[int]:
        # A tensor that is kept by a view of it keeps its memory, so that no other can come to lie there.
        return [0 if (tensor := slot.get(name)) is None else tensor.data_ptr() for slot, name in self._slots]
