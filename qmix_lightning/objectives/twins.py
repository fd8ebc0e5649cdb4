"""Modules that run over other tensors than their own, and how to notice when tensors change behind one's back."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from operator import is_
from typing import Any

from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import Tensor, nn

Tree = Any
"""Parameters and buffers of a module as TensorDictParams, their names joined by dots."""


class Placement:
    """A module and a tree over the same numbers, as they are now, so that a look tells what was exchanged since.

    Walking a module or a tree takes a hundred microseconds, this a few.

    Args:
        module: Any module.
        tree: Its parameters and buffers, the latter perhaps as other tensors over the same memory.
    """

    def __init__(self, module: nn.Module, tree: Tree) -> None:
        self._tree, self._leaves = tree._param_td, _at_hand(tree)
        self._names = list(leaves(tree))
        self._slots = list(_slots(module, self._names))
        self._tensors = [slot.get(name) for slot, name in self._slots]
        self._children = [
            (part._modules, name, child) for part in module.modules() for name, child in part._modules.items()
        ]

    def has(self, tree: Tree) -> bool:
        """Whether the tree holds the tensors that it held."""
        return tree._param_td is self._tree and _same(_at_hand(tree), self._leaves)

    def whole(self) -> bool:
        """Whether the module is made of the modules that it was made of."""
        return all(children.get(name) is child for children, name, child in self._children)

    def exchanged(self) -> dict[str, Tensor | None]:
        """Names and former tensors of what the module has exchanged."""
        now = [slot.get(name) for slot, name in self._slots]
        if _same(now, self._tensors):
            return {}
        changed = zip(self._names, self._tensors, now, strict=True)
        return {name: before for name, before, tensor in changed if tensor is not before}


class Twin:
    """A module of the same build as another, over the tensors of a tree.

    Args:
        network: The other.
        tree: What the twin runs over.
    """

    def __init__(self, network: nn.Module, tree: Tree) -> None:
        self.module = over(network, tree)
        self._own = Placement(self.module, tree)
        pairs = zip(network.modules(), self.module.modules(), strict=True)
        self._plain = [
            (theirs.__dict__, ours.__dict__, [name for name in theirs.__dict__ if _is_plain(name, theirs)])
            for theirs, ours in pairs
            if not isinstance(theirs, TensorDictParams)
        ]

    def fits(self, tree: Tree) -> bool:
        """Whether it runs over the tensors of this tree; other attributes of its are made those of the network."""
        if not self._own.has(tree) or self._own.exchanged():
            return False
        for theirs, ours, names in self._plain:
            for name in names:
                # A temperature, say, that the user anneals.
                ours[name] = theirs.get(name)
        return True


def leaves(tree: Tree) -> dict[str, Tensor]:
    """Tensors of a tree by their names, joined by dots."""
    return {key if isinstance(key, str) else ".".join(key): leaf for key, leaf in tree.items(True, True)}


def own_tree(module: nn.Module) -> TensorDictParams:
    """The module's very own parameters and buffers, as a tree.

    Args:
        module: Any module, even one without parameters.

    Returns:
        A module whose leaves are the parameters of ``module``, not copies, and tensors over the memory of its buffers.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> own_tree(layer)["weight"] is layer.weight
        True
    """
    tree = TensorDict.from_module(module, as_module=True)
    # A module without parameters, such as VDN, comes back as a plain tensordict.
    return tree if isinstance(tree, TensorDictParams) else TensorDictParams(tree, no_convert=True)


def over(network: nn.Module, tree: Tree) -> nn.Module:
    """A copy of a module over the very tensors of a tree; no tensor is copied."""
    kept = (*network.parameters(), *network.buffers(), *_plain_tensors(network))
    copy = deepcopy(network, {id(tensor): tensor for tensor in kept})
    # A module may keep its parameters as a tree of its own, which is exchanged as a whole.
    tree.to_module(copy)
    trees = tuple(f"{path}." for path, module in copy.named_modules() if isinstance(module, TensorDictParams))
    for path, tensor in leaves(tree).items():
        if path.startswith(trees):
            continue
        owner, _, name = path.rpartition(".")
        module = copy.get_submodule(owner)
        for tensors in (module._parameters, module._buffers, module.__dict__):
            tensors.pop(name, None)
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


def _slots(module: nn.Module, names: list[str]) -> Iterator[tuple[dict[str, Any], str]]:
    parts = dict(module.named_modules())
    trees = [path for path, part in parts.items() if isinstance(part, TensorDictParams)]
    for full in names:
        owner, _, name = full.rpartition(".")
        for path in trees:
            if full.startswith(f"{path}."):
                owner, name = path, full[len(path) + 1 :]
        part = parts[owner]
        yield part._parameters if name in part._parameters else part._buffers, name


def _at_hand(tree: Tree) -> list[Tensor]:
    return [*tree._parameters.values(), *tree._buffers.values()]


def _same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now, before))


def _plain_tensors(network: nn.Module) -> Iterator[Tensor]:
    """Tensors that are mere attributes: constants, or what a network remembers of its last run."""
    for module in network.modules():
        yield from (value for value in module.__dict__.values() if isinstance(value, Tensor))


def _is_plain(name: str, module: nn.Module) -> bool:
    value = module.__dict__[name]
    return name != "training" and not name.startswith("_") and isinstance(value, float | int | str | Tensor)
