"""A seed for every episode."""

from __future__ import annotations

import numpy as np


def episode_seed(*numbers: int) -> int:
    """Derive a seed that depends on all these numbers and resembles that of no others.

    Args:
        numbers: E.g. the seed of a run, the number of a game and that of its episode; the first may be any size.

    Returns:
        A seed of 31 bits, which every library takes.

    Example:
        >>> episode_seed(1, 2) == episode_seed(1, 2), episode_seed(1, 2) == episode_seed(2, 1)
        (True, False)
    """
    return int(np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1)[0]) >> 1
