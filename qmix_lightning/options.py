"""What a learner can be told, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

Estimator = Literal["td0", "td1", "td_lambda"]
OptimizerName = Literal["adam", "rmsprop"]
TargetUpdate = Literal["hard", "soft"]
GreedyNetwork = Literal["online", "target"]


def refuse_bad_options(options: Mapping[str, Any]) -> None:
    """Refuse, by the names that QLearner has for them, options that would fail later or pass for something else.

    Args:
        options: All arguments of :class:`~qmix_lightning.module.QLearner` but task and networks.

    Raises:
        ValueError: If one is unknown or out of range.
    """
    for name, known in (
        ("estimator", Estimator), ("optimizer", OptimizerName),
        ("target_update", TargetUpdate), ("greedy_network", GreedyNetwork),
    ):  # fmt: skip
        if options[name] not in get_args(known):
            raise ValueError(f"Unknown {name} {options[name]!r}, expected one of {', '.join(get_args(known))}.")
    for name in ("target_rate", "epsilon_start", "epsilon_end"):
        if not 0 <= options[name] <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {options[name]}.")
    for name in ("learning_rate", "target_interval", "epsilon_steps"):
        if not options[name] > 0:
            raise ValueError(f"{name} must be positive, got {options[name]}.")
    if math.isinf(options["learning_rate"]):
        raise ValueError("learning_rate must be finite, got inf.")
    if options["epsilon_steps"] < 1:
        raise ValueError(f"epsilon_steps must be at least 1, got {options['epsilon_steps']}.")
    rate, final_rate = options["learning_rate"], options["final_learning_rate"]
    if final_rate is not None and not 0 <= final_rate <= rate:
        raise ValueError(f"final_learning_rate must lie between 0 and learning_rate {rate}, got {final_rate}.")
