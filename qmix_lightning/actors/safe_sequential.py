"""One module after another, with the specs of all that they write."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from tensordict.nn import TensorDictSequential

from qmix_lightning.actors.specified import AbstractSpecified
from qmix_lightning.actors.specs import composite_like, is_composite


class SafeSequential(AbstractSpecified, TensorDictSequential):  # type: ignore[misc]
    """Runs TensorDict modules in turn and gathers their specs; a drop-in for TorchRL's class of this name.

    Args:
        *modules: TensorDict modules, or callables that map a tensordict to one; or a single list or dict of them.
        partial_tolerant: Whether a module whose entries are missing is skipped.
        inplace: Whether to write into the given tensordict (True), into a new one (False), into an empty one of the
            same type, device and batch size (``"empty"``), or wherever the modules do (None).

    Attributes:
        spec: A TorchRL Composite with what the modules know of each entry they write, None where nobody does. There is
            no such attribute if none of the modules has a Composite of specs.

    Raises:
        RuntimeError: If the specs mention entries that nobody writes.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> double = TensorDictModule(lambda x: 2 * x, ["x"], ["y"])
        >>> square = TensorDictModule(lambda y: y * y, ["y"], ["z"])
        >>> policy = SafeSequential(double, square)
        >>> policy.in_keys, policy.out_keys
        (['x'], ['y', 'z'])
        >>> policy(TensorDict(x=torch.tensor(3)))["z"]
        tensor(36)

    Source:
        Bou et al., "TorchRL: A data-driven decision-making library for PyTorch", 2024.
    """

    def __init__(
        self, *modules: Any, partial_tolerant: bool = False, inplace: bool | Literal["empty"] | None = None
    ) -> None:
        # Given a plain dict, TensorDictSequential calls this constructor again, with an argument it does not have.
        modules = tuple(OrderedDict(module) if isinstance(module, dict) else module for module in modules)
        TensorDictSequential.__init__(self, *modules, partial_tolerant=partial_tolerant, inplace=inplace)
        self.register_spec(safe=False, spec=self._gathered())

    def _gathered(self) -> Any:
        specs = [getattr(module, "spec", None) for module in self._module_iter()]
        known = next((spec for spec in specs if is_composite(spec)), None)
        if known is None:
            return None
        gathered = composite_like(known, {})
        for module, spec in zip(self._module_iter(), specs, strict=True):
            gathered.update(spec if is_composite(spec) else dict.fromkeys(module.out_keys))
        return gathered
