"""What a loss is, apart from its formula: owner of networks and their targets, of keys and of an estimator."""

from __future__ import annotations

import difflib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any, ClassVar, Self

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictParams
from torch import Tensor, nn

from qmix_lightning.objectives.estimators import AbstractValueEstimator, ValueEstimators, make_estimator


def own_parameters(module: nn.Module) -> TensorDictParams:
    """The module's very own parameters and buffers, as a tree.

    Args:
        module: Any module, even one without parameters.

    Returns:
        A module whose leaves are the tensors of ``module``, not copies.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> own_parameters(layer)["weight"] is layer.weight
        True
    """
    params = TensorDict.from_module(module, as_module=True)
    # A module without parameters, such as VDN, comes back as a plain tensordict.
    return params if isinstance(params, TensorDictParams) else TensorDictParams(params, no_convert=True)


class AbstractLoss(TensorDictModuleBase, ABC):  # type: ignore[misc]
    """A loss over a tensordict, with the anatomy of TorchRL's ``LossModule``.

    A network called ``x`` is kept as the plain attribute ``x``; the loss's children are its parameters, ``x_params``
    (the network's own, so that they train wherever they are listed), and ``target_x_params`` (buffers), if it has
    targets of its own. Without, ``target_x_params`` are the live parameters without gradient.

    Attributes:
        tensor_keys: Where the loss reads and writes.
        has_target_update: Whether somebody promised to update the targets.
    """

    default_keys: ClassVar[Any]
    default_value_estimator: ClassVar = ValueEstimators.TD0
    SUPPORTED_VALUE_ESTIMATORS: ClassVar = (ValueEstimators.TD0, ValueEstimators.TD1, ValueEstimators.TDLambda)
    TARGET_NET_WARNING: ClassVar = (
        "No target network updater has been associated with this loss module, but target parameters have been found."
        " Make a HardUpdate or a SoftUpdate of the loss and call its step(), or update the targets yourself and silence"
        " this by RL_WARNINGS=0."
    )

    def __init__(self) -> None:
        super().__init__()
        self.tensor_keys = self.default_keys()
        self.has_target_update = self._warned = False
        self._network_names: list[str] = []
        self._value_estimator: AbstractValueEstimator
        self.make_value_estimator()

    @abstractmethod
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss of a batch."""

    def keep_network(self, name: str, network: nn.Module, *, target: bool) -> None:
        """Own a network, and a copy of its parameters if ``target``.

        Args:
            name: The attribute it becomes.
            network: The user's network, which stays the user's.
            target: Whether it gets target parameters of its own.

        Raises:
            ValueError: If the network has uninitialised parameters.
        """
        if any(nn.parameter.is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            raise ValueError(
                f"Expected a {name} whose parameters have shapes, got uninitialised ones. Run lazy modules on an"
                " example before making a loss of them."
            )
        self._network_names.append(name)
        self.__dict__[name] = network
        params = own_parameters(network)
        setattr(self, f"{name}_params", params)
        if target:
            setattr(self, f"target_{name}_params", TensorDictParams(params.data.clone(), no_convert=True))

    def target_params(self, name: str) -> TensorDictBase:
        """Parameters of the target of a network: its copy, or the live ones without gradient."""
        copies = self._modules.get(f"target_{name}_params")
        return own_parameters(self.__dict__[name]).data if copies is None else copies

    def set_keys(self, **keys: NestedKey | None) -> None:
        """Change where the loss reads and writes: all of the given keys or, after an error, none.

        Args:
            **keys: Names in ``tensor_keys`` and their new keys; None restores the default.

        Raises:
            ValueError: If a name is unknown, or a key is neither a string nor a tuple of strings.
        """
        defaults = self.default_keys()
        known = [field.name for field in fields(defaults)]
        for name, key in keys.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(
                    f"{name} is not an accepted tensordict key. Accepted keys are: {set(known)}."
                    + (f" Did you mean {near[0]!r}?" if near else "")
                )
            parts = key if isinstance(key, tuple) else (key,)
            if key is not None and not all(isinstance(part, str) for part in parts):
                raise ValueError(f"key name must be of type NestedKey (str or tuple of str), got {name}={key!r}.")
        new = {name: getattr(defaults, name) if key is None else key for name, key in keys.items()}
        self.tensor_keys = replace(self.tensor_keys, **new)

    @property
    def value_estimator(self) -> AbstractValueEstimator:
        """What computes the targets."""
        return self._value_estimator

    @property
    def value_type(self) -> ValueEstimators:
        """Name of the estimator."""
        return self._value_estimator.value_type

    def make_value_estimator(self, value_type: Any = None, **hyperparameters: Any) -> Self:
        """Choose the returns to regress towards.

        Args:
            value_type: ``ValueEstimators.TD0`` (the default), ``TD1`` or ``TDLambda``, or their names.
            **hyperparameters: ``gamma`` (0.99), ``lmbda`` (0.95, of TDLambda), ``time_dim``.

        Returns:
            The loss itself.

        Raises:
            NotImplementedError: If the estimator is not one of these.
            KeyError: If the name is unknown.
            ValueError: If a hyper-parameter is out of range.
        """
        value_type = self.default_value_estimator if value_type is None else value_type
        estimator = make_estimator(value_type, type(self).__name__, **hyperparameters)
        self._value_estimator = estimator.to(next((parameter.device for parameter in self.parameters()), None))
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the loss and, though they are no children, of its networks."""
        super().train(mode)
        for name in self._network_names:
            self.__dict__[name].train(mode)
        return self

    def warn_without_update(self) -> None:
        """Say once that nobody updates the targets, if so."""
        silent = self._warned or self.has_target_update or torch.compiler.is_compiling()
        if silent or not any(name.startswith("target_") for name in self._modules):
            return
        self._warned = True
        if os.environ.get("RL_WARNINGS", "1").lower() not in ("0", "false"):
            warnings.warn(self.TARGET_NET_WARNING, UserWarning, stacklevel=4)

    def _share(self) -> None:
        for name in self._network_names:
            setattr(self, f"{name}_params", own_parameters(self.__dict__[name]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # A cast replaces buffers: the networks' own are cast too, and stay the ones that the loss saves.
        for name in self._network_names:
            self.__dict__[name]._apply(fn)
        self._share()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(deepcopy(self.__dict__, memo))
        # Copies of a parameter tree are copies of their own, apart from those in the copied network.
        clone._share()
        return clone
