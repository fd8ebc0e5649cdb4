"""What a loss is, apart from its formula: owner of networks, of keys and of an estimator."""

from __future__ import annotations

import difflib
import os
import warnings
from abc import abstractmethod
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import InteractionType
from torch import Tensor

from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators
from qmix_lightning.objectives.estimators.registry import make_estimator
from qmix_lightning.objectives.networks import AbstractNetworkOwner

Randomness = Literal["error", "same", "different"]


class AbstractLoss(AbstractNetworkOwner):
    """A loss over a tensordict, with the anatomy of TorchRL's ``LossModule``.

    Attributes:
        tensor_keys: Where the loss reads and writes.
        has_target_update: Whether somebody promised to update the targets.
        deterministic_sampling_mode: How networks that explore behave inside the loss.
        vmap_randomness: Kept for compatibility; nothing here is vectorised by vmap.
    """

    default_keys: ClassVar[Any]
    default_value_estimator: ClassVar = ValueEstimators.TD0
    SUPPORTED_VALUE_ESTIMATORS: ClassVar = (ValueEstimators.TD0, ValueEstimators.TD1, ValueEstimators.TDLambda)
    TARGET_NET_WARNING: ClassVar = (
        "No target network updater has been associated with this loss module, but target parameters have been found."
        " Make a HardUpdate or a SoftUpdate of the loss and call its step(), give Lightning's Trainer a TargetUpdater,"
        " or update the targets yourself and silence this by RL_WARNINGS=0."
    )
    deterministic_sampling_mode: InteractionType = InteractionType.DETERMINISTIC
    vmap_randomness: Randomness = "error"

    def __init__(self) -> None:
        super().__init__()
        self.tensor_keys = self.default_keys()
        self.has_target_update = self._warned = False
        self._value_estimator: AbstractValueEstimator
        self._use(make_estimator(self.default_value_estimator, type(self).__name__))
        self._chosen = False

    @abstractmethod
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss of a batch."""

    def set_keys(self, **keys: NestedKey | None) -> None:
        """Change where the loss reads and writes: all of the given keys or, after an error, none.

        Args:
            **keys: Names in ``tensor_keys`` and their new keys; None restores the default.

        Raises:
            ValueError: If a name is unknown, a key is neither a string nor a tuple of strings, or the loss cannot do
                with it.
        """
        defaults = self.default_keys()
        known = [field.name for field in fields(defaults)]
        for name, key in keys.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(
                    f"{name} is not an accepted tensordict key. Accepted keys are: {', '.join(known)}."
                    + (f" Did you mean {near[0]!r}?" if near else "")
                )
            if key is not None and not _is_key(key):
                raise ValueError(f"key name must be of type NestedKey (str or tuple of str), got {name}={key!r}.")
        before = self.tensor_keys
        new = {name: getattr(defaults, name) if key is None else key for name, key in keys.items()}
        self.tensor_keys = replace(before, **new)
        try:
            self.keys_changed()
        except Exception:
            self.tensor_keys = before
            self.keys_changed()
            raise

    @property
    def loss_mask_key(self) -> NestedKey | None:
        """Where a mask says which steps count: TorchRL's way to say ``set_keys(mask=...)``.

        ``"auto"``, the default there, means none here, as it does in TorchRL's loss of this name.
        """
        return "auto" if self.tensor_keys.mask is None else self.tensor_keys.mask

    @loss_mask_key.setter
    def loss_mask_key(self, key: NestedKey | None) -> None:
        self.set_keys(mask=None if key == "auto" else key)

    @property
    def use_prioritized_weights(self) -> bool | str:
        """Whether importance weights count: TorchRL's way to say ``set_keys(priority_weight="priority_weight")``.

        ``"auto"``, the default there, means no here, as it does in TorchRL's loss of this name.
        """
        return "auto" if self.tensor_keys.priority_weight is None else True

    @use_prioritized_weights.setter
    def use_prioritized_weights(self, use: bool | str) -> None:
        self.set_keys(priority_weight="priority_weight" if use is True else None)

    def keys_changed(self) -> None:
        """Tell whoever depends on the keys; called after every change of them or of the estimator."""
        keys = self.tensor_keys
        self._value_estimator.set_keys(
            advantage=keys.advantage, value_target=keys.value_target, value=keys.global_value, reward=keys.reward,
            done=keys.done, terminated=keys.terminated,
        )  # fmt: skip

    @property
    def value_estimator(self) -> AbstractValueEstimator:
        """What computes the targets."""
        return self._value_estimator

    @property
    def value_type(self) -> ValueEstimators:
        """Name of the estimator."""
        return self._value_estimator.value_type

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> Self:
        """Choose the returns to regress towards.

        Args:
            value_type: ``ValueEstimators.TD0`` (the default), ``TD1`` or ``TDLambda``, their names, or a class or an
                instance of :class:`~qmix_lightning.objectives.estimators.base.AbstractValueEstimator`.
            **hyperparams: ``gamma`` (0.99, or the loss's attribute ``gamma`` if you gave it one), ``lmbda`` (0.95, of
                TDLambda), ``time_dim``, ``average_rewards``, ``group_key``.

        Returns:
            The loss itself.

        Raises:
            NotImplementedError: If the estimator is not one of these.
            KeyError: If the name is unknown.
            ValueError: If a hyper-parameter is out of range.
            TypeError: If a hyper-parameter is unknown.
        """
        value_type = self.default_value_estimator if value_type is None else value_type
        if hasattr(self, "gamma") and not isinstance(value_type, AbstractValueEstimator):
            hyperparams.setdefault("gamma", float(self.gamma))
        self._use(make_estimator(value_type, type(self).__name__, **hyperparams))
        self._chosen = True
        return self

    def _use(self, estimator: AbstractValueEstimator) -> None:
        self._value_estimator = estimator.to(next((parameter.device for parameter in self.parameters()), None))
        self.keys_changed()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value_estimator":
            # Torch would make a child of it, past the property.
            self.make_value_estimator(value)
            return
        super().__setattr__(name, value)
        if name in ("gamma", "default_value_estimator") and not self._chosen:
            # As long as nobody chose an estimator, these two do.
            self.make_value_estimator()
            self._chosen = False

    def reset(self) -> None:
        """Nothing to forget between batches."""

    def set_vmap_randomness(self, value: Randomness) -> None:
        """Kept for compatibility; nothing here is vectorised by vmap.

        Raises:
            ValueError: If the value is none of vmap's.
        """
        if value not in ("error", "same", "different"):
            raise ValueError(f"Wrong vmap randomness, should be one of 'error', 'same' or 'different', got {value!r}.")
        self.vmap_randomness = value

    def register_coeff_buffer(
        self,
        name: str,
        value: float | Tensor | None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Keep a number of the loss as a buffer, or as None.

        Args:
            name: The attribute it becomes.
            value: The number.
            device: Where it is kept.
            dtype: Its type.

        Raises:
            ValueError: If it is not one number.
        """
        number = isinstance(value, float | int | Tensor) and not isinstance(value, bool)
        if value is not None and (not number or torch.as_tensor(value).numel() != 1):
            raise ValueError(f"{name} must be a float or a scalar tensor, got {value}.")
        self.register_buffer(name, None if value is None else torch.as_tensor(value, device=device, dtype=dtype))

    def warn_without_update(self) -> None:
        """Say once that nobody updates the targets, if so."""
        silent = self._warned or self.has_target_update or torch.compiler.is_compiling()
        if silent or not any(name.startswith("target_") for name in self._modules):
            return
        self._warned = True
        if os.environ.get("RL_WARNINGS", "1").lower() not in ("0", "false"):
            warnings.warn(self.TARGET_NET_WARNING, UserWarning, stacklevel=6)


def _is_key(key: Any) -> bool:
    return isinstance(key, str | tuple) and len(key) > 0 and (isinstance(key, str) or all(map(_is_key, key)))
