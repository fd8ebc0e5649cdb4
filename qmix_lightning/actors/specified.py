"""What a module knows about what it writes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any, Self

import torch
from tensordict import TensorDictBase, unravel_key, unravel_key_list
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from qmix_lightning.actors.specs import composite_like, is_composite


class AbstractSpecified(TensorDictModuleBase, ABC):  # type: ignore[misc]
    """A TensorDict module with TorchRL's specs of what it writes, if the user has any; TorchRL's ``SafeModule``.

    Without specs there is no attribute ``spec``, rather than one full of None: TorchRL's collectors then look at what
    the module writes, and its losses ask ``action_space``, instead of guessing.

    Attributes:
        safe: Whether what is written is projected into its spec.
    """

    safe: bool = False
    _spec: Any = None

    def register_spec(self, safe: bool, spec: Any) -> None:
        """Take over specs.

        Args:
            safe: Whether to project what is written into them.
            spec: A TorchRL spec of the only entry, a Composite with one for each entry, or None.

        Raises:
            TypeError: If ``spec`` is none of TorchRL's.
            RuntimeError: If it does not cover the entries that are written, or ``safe`` has none to project into.
        """
        if spec is not None and not is_composite(spec):
            if len(self.out_keys) > 1:
                raise RuntimeError(
                    f"got more than one out_key for the TensorDictModule: {self.out_keys},\nbut only one spec. Use a"
                    " Composite with an entry for each."
                )
            spec = composite_like(spec, {self.out_keys[0]: spec})
        spec = None if spec is None else self._complete(spec.clone())
        if safe and (spec is None or all(leaf is None for leaf in spec.values(True, True))):
            raise RuntimeError(
                "`TensorDictModule(spec=None, safe=True)` is not a valid configuration as the tensor specs are not"
                " specified. Give the spec of the action, or leave safe out."
            )
        self._spec, self.safe = spec, safe

    def _complete(self, spec: Any) -> Any:
        """The specs with None for every entry that they do not mention."""
        known, written = (set(unravel_key_list(list(keys))) for keys in (spec.keys(True, True), self.out_keys))
        if not known <= written:
            raise RuntimeError(
                f"spec keys and out_keys do not match, got: {known} and {written} respectively. Leave"
                f" {sorted(map(str, known - written))} out of the spec, or name the entries so."
            )
        for key in written - known:
            spec[key] = None
        return spec

    @property
    def spec(self) -> Any:
        """A Composite with the spec of each entry that is written, None where it is unknown.

        Raises:
            AttributeError: If no spec is known at all.
            RuntimeError: If set to something else than a Composite.
        """
        if self._spec is None:
            raise AttributeError
        return self._spec

    @spec.setter
    def spec(self, spec: Any) -> None:
        if not is_composite(spec):
            raise RuntimeError(
                f"Trying to set an object of type {type(spec)} as a tensorspec but expected a Composite instance."
                " Wrap it: Composite(action=spec)."
            )
        self._spec = spec

    def __getattr__(self, name: str) -> Any:
        """Say why there is no spec: Python comes here when the property has none."""
        if name == "spec":
            raise AttributeError(
                f"'{type(self).__name__}' object has no attribute 'spec': none was given. Pass the TorchRL spec of the"
                " action as spec=, or ask action_space."
            )
        return super().__getattr__(name)

    def random(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write a random element of the first entry's space, whatever else the tensordict holds.

        Args:
            tensordict: Where it is written; its batch size says how many.

        Returns:
            The same tensordict.

        Raises:
            RuntimeError: If the space of the first entry is unknown.
        """
        key = unravel_key(self.out_keys[0])
        leaf = None if self._spec is None else self._spec[key]
        if leaf is None:
            raise RuntimeError(
                f"Cannot draw a random {key!r}: its spec is unknown. Pass the TorchRL spec of it as spec=."
            )
        tensordict.set(key, leaf.rand(tensordict.batch_size))
        return tensordict

    def random_sample(self, tensordict: TensorDictBase) -> TensorDictBase:
        """See :meth:`random`."""
        return self.random(tensordict)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if self._spec is not None:
            # Specs follow to another device, but an action stays an integer when the parameters change their dtype.
            probe = torch.empty(0, device=self._spec.device)
            device = fn(probe).device
            self._spec = self._spec if device == probe.device else self._spec.to(device)
        return self
