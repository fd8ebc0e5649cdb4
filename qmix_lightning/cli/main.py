"""The console script ``qmix``: one word chooses what is done, and only what that needs is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

_HOME: dict[str, str] = {}
"""Commands beside training and evaluating, and the module of this package whose ``main`` does each."""


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: Words after ``qmix``; None takes those of the process.
    """
    words = sys.argv[1:] if args is None else args
    if words and words[0] in _HOME:
        command: Callable[[list[str]], None] = import_module(f"qmix_lightning.cli.{_HOME[words[0]]}").main
        return command(words[1:])
    from qmix_lightning.cli.training import train

    return train(args)
