"""Who owns the networks of a loss: their parameters, those of their targets, and the targets themselves."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictParams
from torch import Tensor, nn

from qmix_lightning.objectives.twins import Placement, Twin, over, own_tree


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
        self._placements: dict[str, Placement] = {}
        self._twins: dict[str, Twin] = {}

    def networks_changed(self) -> None:
        """Tell whoever holds a network; called when one is a new object or has new tensors."""
        for name in self._network_names:
            self.online_network(name)
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
        self.__dict__[module_name] = module
        params = own_tree(module)
        setattr(self, f"{module_name}_params", params)
        self._placements[module_name] = Placement(module, params)
        self._network_names.append(module_name)
        if create_target_params:
            setattr(self, f"target_{module_name}_params", TensorDictParams(params.data.clone(), no_convert=True))
        self.networks_changed()

    def target_params(self, name: str) -> TensorDictBase:
        """Parameters of the target of a network: its copy, or the live ones without gradient."""
        copies = self._modules.get(f"target_{name}_params")
        return own_tree(self.__dict__[name]).data if copies is None else copies

    def target_network(self, name: str) -> nn.Module:
        """The target of a network: a module of its own over the target's parameters, in evaluation mode.

        No dropout disturbs what is regressed towards, and no batch moves the target's statistics. Run it without
        gradient.
        """
        params = self._modules.get(f"target_{name}_params")
        return self._twin(f"target_{name}", name, self._modules[f"{name}_params"] if params is None else params)

    def online_network(self, name: str) -> nn.Module:
        """The network that learns: the user's own, or one over the parameters that were put in the place of its."""
        params = self._modules[f"{name}_params"]
        if torch.compiler.is_compiling() or self._placements[name].has(params):
            return self.__dict__[name]  # type: ignore[no-any-return]
        return self._twin(name, name, params)

    def notice_changes(self) -> None:
        """See to tensors that were exchanged behind the owner's back, its own or the networks'.

        Buffers that a network has replaced become the owner's; parameters of the owner that were replaced are those it
        goes on with.

        Raises:
            RuntimeError: If the network itself has got other modules or parameters, which nobody would train.
        """
        for name in self._network_names:
            params, placement = self._modules[f"{name}_params"], self._placements[name]
            if not placement.whole():
                raise RuntimeError(
                    f"Expected {name} to be made of the modules it had when the loss was made, but some were exchanged."
                    " The loss would not train the new ones: make the loss after changing the network."
                )
            exchanged = placement.exchanged() if placement.has(params) else {}
            for leaf, before in exchanged.items():
                if isinstance(before, nn.Parameter):
                    raise RuntimeError(
                        f"Expected the parameter {leaf} of {name} to be the one it had when the loss was made, but it"
                        " was exchanged. The loss would not train the new one: make the loss after changing the"
                        " network."
                    )
            if exchanged:
                self._share_parameters()
                return

    def _twin(self, key: str, name: str, params: Any) -> nn.Module:
        twin = self._twins.get(key)
        if twin is None or not (torch.compiler.is_compiling() or twin.fits(params)):
            twin = self._twins[key] = Twin(self.__dict__[name], params)
            twin.module.train(self.training and key == name)
        return twin.module

    def get_stateful_net(self, network_name: str, copy: bool | None = None) -> nn.Module:
        """A network with its parameters.

        Args:
            network_name: Its name.
            copy: Whether to return a module of its own over the same parameters (True or None), or the user's (False).
        """
        network: nn.Module = self.__dict__[network_name]
        return network if copy is False else over(network, self._modules[f"{network_name}_params"])

    def from_stateful_net(self, network_name: str, stateful_net: nn.Module) -> None:
        """Take over the values of another network's parameters.

        Args:
            network_name: Which network gets them.
            stateful_net: A network with the same parameters.

        Raises:
            RuntimeError: If its parameters have other names.
        """
        mine, theirs = self._modules[f"{network_name}_params"], own_tree(stateful_net)
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
            # Children first: a module may make something special of its own.
            for module in reversed([*self.__dict__[name].modules()]):
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
            target = self._modules.get(f"target_{name}_params")
            if target is not None:
                target.data.update_(self._modules[f"{name}_params"].data)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # A cast replaces buffers: the networks' own are cast too, and stay the ones that the loss saves.
        for name in self._network_names:
            self.__dict__[name]._apply(fn)
        self._twins.clear()
        self._share_parameters()
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        names = self.__dict__.get("_network_names", ())
        if name in names:
            raise AttributeError(f"Expected {name} to stay as it was given. Make a new loss of another network.")
        params = name.endswith("_params") and name.removesuffix("_params").removeprefix("target_") in names
        if params and isinstance(value, TensorDictBase) and not isinstance(value, nn.Module):
            value = TensorDictParams(value, no_convert=True)
        super().__setattr__(name, value)
        if params:
            self.networks_changed()
        elif name == "training":
            self._set_mode(value)

    def _set_mode(self, training: bool) -> None:
        """Give the networks, though they are no children, the mode of their owner. Targets never train.

        Lightning, when an evaluation is over, sets it in each module that it finds without calling ``train``.
        """
        for name in self.__dict__.get("_network_names", ()):
            self.__dict__[name].train(training)
            if name in self._twins:
                self._twins[name].module.train(training)

    def _share_parameters(self) -> None:
        for name in self._network_names:
            params = self._modules[f"{name}_params"] = own_tree(self.__dict__[name])
            self._placements[name] = Placement(self.__dict__[name], params)
        self.networks_changed()

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Parameters, targets and discounts; buffers that a network has replaced are those of the network."""
        self.notice_changes()
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Trees of parameters load whatever can be broadcast to them.
        for name, tensor in self.state_dict().items():
            came = state_dict.get(prefix + name, tensor)
            if isinstance(came, Tensor) and came.shape != tensor.shape:
                raise RuntimeError(
                    f"size mismatch for {prefix + name}: expected {list(tensor.shape)}, got {list(came.shape)}. Load"
                    " what networks of the same sizes have saved."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_twins": {}, "_placements": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share_parameters()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(deepcopy(self.__getstate__(), memo))
        # Copies of a parameter tree are copies of their own, apart from those in the copied network.
        clone._share_parameters()
        return clone
