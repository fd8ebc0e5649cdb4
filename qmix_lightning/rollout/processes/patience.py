"""How long a game may take, how often it may fail, and what of that came to pass."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Final

_LOG: Final = logging.getLogger("qmix_lightning.rollout")

_LONGEST_PAUSE: Final = 60.0
"""Seconds after which a game that failed is tried again at the latest."""


@dataclass(frozen=True)
class Patience:
    """What games in processes of their own are granted.

    Args:
        reset_deadline: Seconds in which an episode must begin, launch of the game included.
        step_deadline: Seconds in which a step must be played.
        retries: Faults of one game in a row, without a whole episode between them, after which it is given up.
        pause: Seconds before a game that failed twice in a row is made anew, twice as many the next time, and so on.
        stagger: Seconds between the launches of two games.
        close_deadline: Seconds in which games may close themselves at the end, and save what they have to.
        recycle_after: Steps after which a game is made anew between two episodes: StarCraft II leaks memory, and ends
            by itself after some 65,000 steps.

    Raises:
        ValueError: If one is negative, or a deadline or a number zero.

    Example:
        >>> Patience(step_deadline=5.0).pause_after(failures=3)
        2.0
    """

    reset_deadline: float = 180.0
    step_deadline: float = 60.0
    retries: int = 5
    pause: float = 1.0
    stagger: float = 1.0
    close_deadline: float = 15.0
    recycle_after: int = 50_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value, may_be_zero = getattr(self, field.name), field.name in ("pause", "stagger", "retries")
            if value < 0 or not (value or may_be_zero):
                raise ValueError(f"{field.name} must be {'at least 0' if may_be_zero else 'positive'}, got {value}.")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Patience:
        """Take options by their names.

        Raises:
            ValueError: If there is none of a name.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"Games in workers have no option {name!r}. {hint}They have {', '.join(known)}.")
        return cls(**options)

    def pause_after(self, failures: int) -> float:
        """Seconds to wait after so many faults in a row: none after the first, which may be chance."""
        return min(_LONGEST_PAUSE, self.pause * 2.0 ** (failures - 2)) if failures > 1 else 0.0


class Losses:
    """Counts and logs what went wrong, by reason.

    Args:
        name: Of the task.
        num_games: How many play it.
        patience: How many faults in a row are granted.

    Attributes:
        restarts: How often a game was made anew, by reason, e.g. ``"crash in step"`` or ``"recycled"``.

    Example:
        >>> losses = Losses("own/guess", 2, Patience(retries=1))
        >>> losses.restarts["recycled"]
        0
    """

    def __init__(self, name: str, num_games: int, patience: Patience) -> None:
        self._name, self._patience, self._in_a_row = name, patience, [0] * num_games
        self._last = [""] * num_games
        self.restarts: Counter[str] = Counter()

    def recycled(self) -> None:
        """Count a game that was made anew in time."""
        self.restarts["recycled"] += 1

    def succeeded(self, game: int) -> None:
        """Forgive a game its faults, for a whole episode."""
        self._in_a_row[game] = 0

    def failed(self, game: int, when: str, reason: str, words: str, said: str = "") -> float | None:
        """Count a fault.

        Args:
            game: Whose.
            when: What it was doing: ``"launch"``, ``"reset"`` or ``"step"``.
            reason: In a word or two.
            words: What happened.
            said: What else is known, at any length.

        Returns:
            After how many seconds to try again; None if the game is given up.
        """
        self.restarts[f"{reason} in {when}"] += 1
        self._in_a_row[game] += 1
        failures = self._in_a_row[game]
        self._last[game] = f"{reason} in {when}: {words}\n{said}".strip()
        told = f"Game {game} of {self._name}: {reason} in {when} ({words}). Its episode is dropped"
        if failures > self._patience.retries:
            _LOG.error("%s, and the game is given up after %d faults in a row.", told, failures)
            return None
        pause = self._patience.pause_after(failures)
        soon = f"in {pause:g} s" if pause else "now"
        _LOG.warning("%s, and the game is made anew %s (fault %d of its %d).", told, soon, failures, self.total)
        return pause

    @property
    def total(self) -> int:
        """Faults so far, of all games."""
        return sum(self.restarts.values()) - self.restarts["recycled"]

    def obituary(self) -> str:
        """What is said when no game is left."""
        counts = ", ".join(f"{count} times {reason}" for reason, count in self.restarts.most_common())
        last = next((words for words in reversed(self._last) if words), "")
        return (
            f"No game of {self._name} is left to play: each failed {self._patience.retries + 1} times in a row without"
            f" a whole episode between ({counts}). The last said:\n{last}"
        )
