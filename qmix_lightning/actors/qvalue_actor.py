"""A network that values all actions, and the choice of the best one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tensordict import NestedKey, unravel_key, unravel_key_list
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import nn

from qmix_lightning.actors.qvalue import QValueModule
from qmix_lightning.actors.safe_sequential import SafeSequential
from qmix_lightning.actors.specs import composite_like, is_composite, is_spec


class QValueActor(SafeSequential):
    r"""Values all actions and picks the greedy one; a drop-in for TorchRL's class of this name.

    .. math:: a^* = \arg\max_{a\ \text{legal}} Q(o, a)

    The network, followed by a :class:`~qmix_lightning.actors.qvalue.QValueModule`; it writes the action, the action
    values ``[*B, A]`` and the value of the action ``[*B, 1]``.

    Args:
        module: The network. A TensorDict module must write ``action_value_key``; anything else is called with the
            entries of ``in_keys``.
        in_keys: What a network reads, ``["observation"]`` if None; a TensorDict module has its own.
        spec: A TorchRL spec of the action, or a Composite of such.
        safe: Whether to project what is written into ``spec``.
        action_space: ``"categorical"``, ``"one-hot"`` or ``"mult-one-hot"``; taken from ``spec`` if None.
        action_value_key: Where the action values are written, ``"action_value"`` if None.
        action_key: Where the action is written, ``"action"`` if None.
        chosen_action_value_key: Where the value of the action is written, ``"chosen_action_value"`` if None.
        action_mask_key: Where a bool mask ``[*B, A]`` of legal actions is read; None makes all actions legal.
        strict_shape: What to do with an action whose shape is not that of ``spec``: refuse it (True or None), reshape
            it (``"auto"``), or let it pass (False).

    Raises:
        KeyError: If a TensorDict module does not write ``action_value_key``, or a Composite has no action.
        ValueError: If the action space is missing, unknown, or not that of ``spec``.
        RuntimeError: If a spec is passed as the action space, ``safe`` has no spec, or the entries of a Composite are
            not those that are written.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> actor = QValueActor(nn.Linear(4, 3), action_space="categorical")
        >>> actor.in_keys, actor.out_keys
        (['observation'], ['action', 'action_value', 'chosen_action_value'])
        >>> actor(TensorDict(observation=torch.zeros(5, 4), batch_size=[5]))["action"].shape
        torch.Size([5])

    Source:
        Watkins, "Learning from Delayed Rewards", 1989, for Q-values; Bou et al., "TorchRL: A data-driven
        decision-making library for PyTorch", 2024, for the interface.
    """

    def __init__(
        self,
        module: nn.Module | Any,
        *,
        in_keys: Sequence[NestedKey] | None = None,
        spec: Any = None,
        safe: bool = False,
        action_space: str | None = None,
        action_value_key: NestedKey | None = None,
        action_key: NestedKey | None = None,
        chosen_action_value_key: NestedKey | None = None,
        action_mask_key: NestedKey | None = None,
        strict_shape: bool | Literal["auto"] | None = True,
    ) -> None:
        if is_spec(action_space):
            raise RuntimeError(
                "Using specs in action_space is deprecated. Please use the 'spec' argument if you want to provide an"
                " action spec."
            )
        action: NestedKey = "action" if action_key is None else action_key
        value: NestedKey = "action_value" if action_value_key is None else action_value_key
        chosen: NestedKey = "chosen_action_value" if chosen_action_value_key is None else chosen_action_value_key
        if not isinstance(module, TensorDictModuleBase):
            module = TensorDictModule(module, in_keys=["observation"] if in_keys is None else in_keys, out_keys=[value])
        elif unravel_key(value) not in unravel_key_list(module.out_keys):
            raise KeyError(
                f"The key '{value}' is not part of the module out-keys. Expected one of {module.out_keys} as"
                " action_value_key."
            )
        if is_spec(spec) and not is_composite(spec):
            spec = composite_like(spec, {action: spec}, shape=spec.shape[:-1])
        head = QValueModule(
            action_space=action_space,
            action_value_key=value,
            action_mask_key=action_mask_key,
            out_keys=[action, value, chosen],
            spec=spec,
            safe=safe,
            strict_shape=strict_shape,
        )
        super().__init__(module, head)
        self.action_space, self.action_value_key = head.action_space, value

    def __getitem__(self, index: int | slice | str) -> TensorDictModuleBase:
        """One of the two modules, or a sequence of some of them, which is no actor any more."""
        return SafeSequential(*self.module)[index] if isinstance(index, slice) else super().__getitem__(index)

    def select_subsequence(
        self, in_keys: Sequence[NestedKey] | None = None, out_keys: Sequence[NestedKey] | None = None
    ) -> TensorDictSequential:
        """The modules that are needed for some entries only, as a sequence.

        Args:
            in_keys: What may be read; all that the actor reads if None.
            out_keys: What must be written; all that the actor writes if None.

        Raises:
            ValueError: If no module is left.
        """
        return SafeSequential(*self.module).select_subsequence(in_keys, out_keys)
