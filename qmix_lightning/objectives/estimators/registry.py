"""Value estimators by name."""

from __future__ import annotations

from enum import Enum
from inspect import signature
from typing import Any, Final

from qmix_lightning.objectives.estimators.base import AbstractValueEstimator, ValueEstimators
from qmix_lightning.objectives.estimators.td0 import TD0Estimator
from qmix_lightning.objectives.estimators.td1 import TD1Estimator
from qmix_lightning.objectives.estimators.td_lambda import TDLambdaEstimator

ESTIMATORS: Final[dict[str, type[AbstractValueEstimator]]] = {
    "TD0": TD0Estimator,
    "TD1": TD1Estimator,
    "TDLambda": TDLambdaEstimator,
}
# TorchRL accepts these and its QMixerLoss computes the same with any value of them.
_WITHOUT_EFFECT: Final = frozenset(
    (
        "differentiable", "vectorized", "shifted", "skip_existing", "device", "deactivate_vmap", "value_chunk_size",
        "num_chunks", "num_chunk", "value_chunk_dim", "shifted_budget",
    )
)  # fmt: skip


def make_estimator(value_type: Any, loss: str, **hyperparameters: Any) -> AbstractValueEstimator:
    """Make a value estimator from its name.

    Args:
        value_type: A member of :class:`ValueEstimators` (or of TorchRL's enum), its name in any case, or a class or
            instance of :class:`AbstractValueEstimator`.
        loss: Name of the loss, for the words of errors.
        **hyperparameters: ``gamma``, ``lmbda``, ``time_dim``, ``average_rewards`` and ``group_key``, if the estimator
            has them.

    Returns:
        The estimator.

    Raises:
        NotImplementedError: If the loss has no use for this estimator.
        KeyError: If no estimator has this name.
        TypeError: If it is no name at all, or a hyper-parameter is unknown.

    Example:
        >>> make_estimator("tdlambda", "QMixerLoss", lmbda=0.6)
        TDLambdaEstimator(gamma=0.99, lmbda=0.6)
    """
    wanted = {key: value for key, value in hyperparameters.items() if key not in _WITHOUT_EFFECT}
    if isinstance(value_type, AbstractValueEstimator):
        if wanted:
            raise TypeError(
                f"Expected no hyper-parameters beside an estimator that is made, got {', '.join(wanted)}. Make it with"
                " them, or pass its class."
            )
        return value_type
    if isinstance(value_type, type) and issubclass(value_type, AbstractValueEstimator):
        return value_type(**wanted)
    if not isinstance(value_type, str | Enum):
        raise TypeError(f"Expected a member of ValueEstimators, its name or an estimator, got {value_type!r}.")
    known = {member.name.lower(): member.name for member in ValueEstimators}
    alias = value_type if isinstance(value_type, str) else value_type.name
    name = known.get(alias.lower().replace("_", ""))
    if name is None:
        raise KeyError(f"Unknown value estimator alias {alias!r}. Known aliases: {sorted(known)}.")
    if name not in ESTIMATORS:
        raise NotImplementedError(
            f"Value type {value_type} is not implemented for loss {loss}. Supported value types: {list(ESTIMATORS)}."
        )
    made = ESTIMATORS[name]
    options = signature(made).parameters
    unknown = [option for option in wanted if option not in options]
    if unknown:
        raise TypeError(
            f"{name} has no hyper-parameter {unknown[0]!r}, it has {', '.join(options)}. lmbda belongs to TDLambda."
        )
    return made(**wanted)
