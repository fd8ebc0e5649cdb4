"""Who owns the networks of a loss: their parameters, those of their targets, and the targets themselves."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictParams
from torch import Tensor, nn


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


class AbstractNetworkOwner(TensorDictModuleBase, ABC):  # type: ignore[misc]
    """A module that learns by networks which stay the user's, with the anatomy of TorchRL's ``LossModule``.

    A network called ``x`` is kept as the plain attribute ``x``; the owner's children are its parameters, ``x_params``
    (the network's own, so that they train wherever they are listed), and ``target_x_params`` (buffers), if it has
    targets of its own. Without, ``target_x_params`` are the live parameters without gradient.

    Attributes:
        functional: True, as everywhere in TorchRL: the parameters lie beside the networks.
    """

    SEP: ClassVar[str] = "."
    functional: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._network_names: list[str] = []
        self._twins: dict[str, _Twin] = {}

    def networks_changed(self) -> None:
        """Tell whoever holds a network; called when one is a new object or has new tensors."""
        for name in self._network_names:
            self.target_network(name)

    def convert_to_functional(
        self,
        module: nn.Module,
        module_name: str,
        expand_dim: int | None = None,
        create_target_params: bool = False,
        compare_against: list[nn.Parameter] | None = None,
        **kwargs: Any,
    ) -> None:
        """Own a network, and a copy of its parameters if ``create_target_params``.

        Args:
            module: The user's network, which stays the user's.
            module_name: The attribute it becomes.
            expand_dim: Refused: there is one network of each name.
            create_target_params: Whether it gets target parameters of its own.
            compare_against: Refused: no network is owned without its gradient.
            **kwargs: Refused.

        Raises:
            TypeError: If there are further arguments.
            NotImplementedError: If ``expand_dim`` or ``compare_against`` is given.
            ValueError: If the network has uninitialised parameters.
        """
        if kwargs:
            raise TypeError(f"Unrecognised keyword arguments {list(kwargs)}: expected none beyond those listed.")
        if expand_dim is not None or compare_against is not None:
            raise NotImplementedError(
                f"{type(self).__name__} keeps one network of each name, with its gradient: expected expand_dim and"
                f" compare_against to be None, got {expand_dim} and {compare_against}. Own several networks by names."
            )
        if any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            raise ValueError(
                f"Expected a {module_name} whose parameters have shapes, got uninitialised ones. Run lazy modules once"
                " on an example before making a loss of them."
            )
        self._network_names.append(module_name)
        self.__dict__[module_name] = module
        params = own_parameters(module)
        setattr(self, f"{module_name}_params", params)
        if create_target_params:
            setattr(self, f"target_{module_name}_params", TensorDictParams(params.data.clone(), no_convert=True))
        self.networks_changed()

    def target_params(self, name: str) -> TensorDictBase:
        """Parameters of the target of a network: its copy, or the live ones without gradient."""
        copies = self._modules.get(f"target_{name}_params")
        return own_parameters(self.__dict__[name]).data if copies is None else copies

    def target_network(self, name: str) -> nn.Module:
        """The target of a network: a module of its own over the target's parameters, in evaluation mode.

        No dropout disturbs what is regressed towards, and no batch moves the target's statistics. Run it without
        gradient.
        """
        params = self._modules.get(f"target_{name}_params")
        params = self._modules[f"{name}_params"] if params is None else params
        twin = self._twins.get(name)
        if twin is None or not (torch.compiler.is_compiling() or twin.has(params)):
            twin = self._twins[name] = _Twin(self.__dict__[name], params)
        return twin.module

    def get_stateful_net(self, network_name: str, copy: bool | None = None) -> nn.Module:
        """A network with its parameters.

        Args:
            network_name: Its name.
            copy: Whether to return a module of its own over the same parameters (True or None), or the user's (False).
        """
        network: nn.Module = self.__dict__[network_name]
        return network if copy is False else _over(network, self._modules[f"{network_name}_params"])

    def from_stateful_net(self, network_name: str, stateful_net: nn.Module) -> None:
        """Take over the values of another network's parameters.

        Args:
            network_name: Which network gets them.
            stateful_net: A network with the same parameters.

        Raises:
            RuntimeError: If its parameters have other names.
        """
        mine, theirs = self._modules[f"{network_name}_params"], own_parameters(stateful_net)
        ours, given = (set(params.keys(True, True)) for params in (mine, theirs))
        if ours != given:
            raise RuntimeError(
                f"The keys of params and provided module differ: {ours - given} are in self.params and not in the"
                f" module, {given - ours} are in the module but not in self.params."
            )
        mine.data.update_(theirs.data)

    def reset_parameters_recursive(self, parameters: TensorDictBase | None = None) -> None:
        """Draw the parameters of all networks anew, and make the targets equal to them.

        Args:
            parameters: Refused: the parameters are the networks' own.

        Raises:
            NotImplementedError: If ``parameters`` are given.
        """
        if parameters is not None:
            raise NotImplementedError("Expected no parameters to reset but the networks' own, got some. Leave it out.")
        for name in self._network_names:
            for module in self.__dict__[name].modules():
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
            target = self._modules.get(f"target_{name}_params")
            if target is not None:
                target.data.update_(self._modules[f"{name}_params"].data)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the owner and, though they are no children, of its networks. Targets never train."""
        super().train(mode)
        for name in self._network_names:
            self.__dict__[name].train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # A cast replaces buffers: the networks' own are cast too, and stay the ones that the loss saves.
        for name in self._network_names:
            self.__dict__[name]._apply(fn)
        self._twins.clear()
        self._share_parameters()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        target = name.startswith("target_") and name[len("target_") :].removesuffix("_params") in self._network_names
        if target and isinstance(value, TensorDictBase) and not isinstance(value, nn.Module):
            value = TensorDictParams(value, no_convert=True)
        super().__setattr__(name, value)
        if target:
            self.networks_changed()

    def _share_parameters(self) -> None:
        for name in self._network_names:
            setattr(self, f"{name}_params", own_parameters(self.__dict__[name]))
        self.networks_changed()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Trees of parameters load whatever can be broadcast to them.
        for name, tensor in self.state_dict().items():
            came = state_dict.get(prefix + name, tensor)
            if came.shape != tensor.shape:
                raise RuntimeError(
                    f"size mismatch for {prefix + name}: expected {list(tensor.shape)}, got {list(came.shape)}. Load"
                    " what networks of the same sizes have saved."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_twins": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.networks_changed()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(deepcopy(self.__getstate__(), memo))
        # Copies of a parameter tree are copies of their own, apart from those in the copied network.
        clone._share_parameters()
        return clone


class _Twin:
    """A module of the same build over other tensors, for as long as those are the same objects."""

    def __init__(self, network: nn.Module, params: Any) -> None:
        self._tensors = list(_leaves(params))
        self.module = _over(network, params).eval()

    def has(self, params: Any) -> bool:
        tensors = self._tensors
        return len(tensors) == sum(1 for _ in _leaves(params)) and all(
            a is b for a, b in zip(tensors, _leaves(params), strict=True)
        )


def _leaves(params: nn.Module) -> Iterator[Tensor | None]:
    yield from params._parameters.values()
    yield from params._buffers.values()


def _over(network: nn.Module, params: Any) -> nn.Module:
    """A copy of a module over the very tensors of ``params``."""
    own = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    copy = deepcopy(network, own)  # copies no tensor
    # A module may keep its parameters as a tree, which is exchanged as a whole.
    params.to_module(copy)
    trees = tuple(f"{path}." for path, module in copy.named_modules() if isinstance(module, TensorDictParams))
    for path, tensor in (*params._parameters.items(), *params._buffers.items()):
        if path.startswith(trees):
            continue
        owner, _, name = path.rpartition(".")
        module = copy.get_submodule(owner)
        for kept in (module._parameters, module._buffers):
            kept.pop(name, None)
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, None)
        else:
            module.register_buffer(name, None)
        # A recurrent module notes in a list of its own what it is assigned.
        setattr(module, name, tensor)
    for module in copy.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    return copy
