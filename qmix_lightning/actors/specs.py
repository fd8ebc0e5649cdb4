"""TorchRL's specs of actions, recognised by the names of their classes, since TorchRL is not imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tensordict import NestedKey, unravel_key


def is_spec(candidate: Any) -> bool:
    """Whether this is a TorchRL spec, of any kind."""
    return _home(candidate) is not None


def is_composite(candidate: Any) -> bool:
    """Whether this is a TorchRL spec of a whole tensordict."""
    return any(base.__name__ == "Composite" for base in type(candidate).__mro__)


def composite_like(spec: Any, entries: dict[NestedKey, Any], shape: Iterable[int] = ()) -> Any:
    """A Composite of the library that a spec comes from.

    Args:
        spec: Any spec of that library.
        entries: A spec, or None if nothing is known, for each key.
        shape: The batch dimensions that all entries share.

    Raises:
        TypeError: If ``spec`` is none of TorchRL's.
    """
    home = _home(spec)
    if home is None:
        raise TypeError(f"spec must be a TensorSpec subclass, got {type(spec).__name__}. Give one of TorchRL's specs.")
    return sys.modules[home].Composite(entries, shape=tuple(shape))


def action_leaf(spec: Any, key: NestedKey = "action") -> Any:
    """The spec of the action: of a Composite the entry at ``key``, else at ``"action"``, else the first that ends so.

    Raises:
        KeyError: If a Composite has no such entry.
    """
    if not is_composite(spec):
        return spec
    keys = [unravel_key(key) for key in spec.keys(True, True)]
    nested = [key for key in keys if isinstance(key, tuple) and key[-1] == "action"]
    found = next((key for key in (unravel_key(key), "action", *nested) if key in keys), None)
    if found is None:
        raise KeyError(
            "action could not be found in the spec. Make sure you pass a spec that is either a native action spec or a"
            f" composite action spec with a leaf 'action' entry, got the entries {keys}. Otherwise, simply remove the"
            " spec and use the action_space only."
        )
    return spec[found]


def spec_sizes(spec: Any) -> list[int]:
    """Number of actions of each component of an action, from its spec: several of a MultiOneHot, else one."""
    space = spec.space
    return [space.n] if hasattr(space, "n") else [component.n for component in space]


def _home(candidate: Any) -> str | None:
    """The module that defines the root of TorchRL's specs."""
    return next((base.__module__ for base in type(candidate).__mro__ if base.__name__ == "TensorSpec"), None)
