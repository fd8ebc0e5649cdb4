"""What a resumed run needs beside networks: written down, found again, and divided anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from tensordict import TensorDict

from qmix_lightning.checkpointing import write_whole
from qmix_lightning.ranks import Ranks
from qmix_lightning.replay.archive import ReplayArchive, load_shards
from qmix_lightning.replay.buffer import ReplayBuffer
from qmix_lightning.rollout.ahead import OneAhead
from qmix_lightning.rollout.base import AbstractRollout
from qmix_lightning.spec import MASK

ReplayCheckpoint = Literal["sidecar", "inline", "none"]

_KEPT = 2
"""How many of the last checkpoints can be resumed exactly; an older one has its networks, but no replay."""


class Savepoints:
    """Saves and restores battles, replay and random numbers of all processes of a training.

    A checkpoint is one file, written by one process, but every process has battles and a replay of its own. Of the
    replay, which may be gigabytes, each process writes beside the checkpoint what came since the last time, and the
    checkpoint has the names of these files, e.g. ``replay/rank0-of-2/000000000-000000099-1a2b3c4d.pt``. Files that none
    of the last two checkpoints needs are removed.

    Args:
        ranks: The processes.
        rollout: This process's battles.
        ahead: What plays them in a thread.
        buffer: This process's replay.
        kind: Where the replay goes: into files beside the checkpoint ("sidecar"), into the checkpoint ("inline"), or
            nowhere ("none"), so that a resumed run collects anew.
    """

    def __init__(
        self, ranks: Ranks, rollout: AbstractRollout, ahead: OneAhead, buffer: ReplayBuffer, kind: ReplayCheckpoint
    ) -> None:
        self._ranks, self._rollout, self._ahead, self._buffer, self._kind = ranks, rollout, ahead, buffer, kind
        self._archives: dict[Path, ReplayArchive] = {}
        self._recent: dict[tuple[Path, str], dict[str, Any]] = {}

    def save(self, folder: Path | None, name: str) -> dict[str, Any]:
        """Write down where everything stands; to be called by all processes.

        Args:
            folder: Where sidecars go; None puts everything into what is returned.
            name: Tells this state from earlier ones; the second save of a name writes nothing.

        Returns:
            Primitives and tensors, the same for all processes.

        Raises:
            OSError: If a file cannot be written, on whichever process; earlier files are untouched.
        """
        kind = "inline" if self._kind == "sidecar" and folder is None else self._kind
        trouble = None
        try:
            if kind == "sidecar" and folder is not None:
                ours = self._save_beside(folder.resolve() / self._own(self._ranks.rank, self._ranks.size), name)
            else:
                ours = {"battles": self._battles(), "replay": self._buffer.state_dict() if kind == "inline" else None}
        except OSError as error:
            ours, trouble = {}, error
        # A process that failed tells the others, who would wait for it in vain.
        told = self._ranks.gather({"ours": ours, "trouble": None if trouble is None else str(trouble)})
        if trouble is not None:
            raise trouble
        if failed := [f"rank {rank}: {each['trouble']}" for rank, each in enumerate(told) if each["trouble"]]:
            raise OSError("; ".join(failed))
        about = {"kind": kind, "name": name, "folder": str(folder)}
        return {**about, "ranks": [each["ours"] for each in told]}

    def load(self, state: dict[str, Any], beside: Path | None) -> list[str]:
        """Take up what :meth:`save` returned.

        Args:
            state: What it was.
            beside: Where the sidecars are looked for first, then where they were written.

        Returns:
            Why the run will not go on exactly as it would have done, a sentence each; nothing if it will.

        Raises:
            ValueError: If a file was cut off or is not one of ours, or what is compact here was not so there.
        """
        self._ahead.finish()
        shards = state["ranks"]
        for replay in (shard["replay"] for shard in shards if shard["replay"] is not None):
            # Where episodes are merely copied, nobody minds.
            self._buffer.refuse_other_form(replay["storage"]["form"] if state["kind"] == "inline" else replay["form"])
        folders = [folder for folder in (beside, Path(state["folder"])) if folder is not None and folder.is_dir()]
        # A checkpoint that was copied beside those of another run finds files there, but not its own.
        holding = [folder for folder in folders if self._holds(folder, shards)]
        folder = [*holding, *folders, Path(state["folder"])][0].resolve()
        if len(shards) != self._ranks.size:
            return self._load_divided(shards, folder)
        ours, own = shards[self._ranks.rank], folder / self._own(self._ranks.rank, self._ranks.size)
        missing = []
        try:
            battles = self._read(ours["battles"], own)
            if ours["replay"] is None:
                missing.append("the checkpoint was written without its replay, which is collected anew")
            elif state["kind"] == "inline":
                self._buffer.load_state_dict(ours["replay"])
            elif ours["replay"]["capacity"] != self._buffer.storage.capacity:
                load_shards(self._buffer, [(own, ours["replay"])], 0, 1)
                missing.append("its replay was of another capacity")
            else:
                self._archive(own).load(self._buffer, ours["replay"])
            if state["kind"] == "sidecar":
                # Until two others are there, this is the checkpoint to go on from.
                self._recent = {(own, state["name"]): ours}
        except FileNotFoundError as error:
            # Only the last checkpoints have theirs.
            return [f"its replay is gone ({error.filename}), so that battles and replay begin anew"]
        torch.set_rng_state(battles["random"])
        if self._rollout.load_state_dict(battles["rollout"]):
            self._ahead.restore([_episodes(played) for played in battles["played"]])
        else:
            missing.append("battles under way could not be taken up and begin anew")
        return missing

    def _holds(self, folder: Path, shards: list[dict[str, Any]]) -> bool:
        """Whether a folder has the files that this process reads of a checkpoint."""
        size = len(shards)
        ours = [self._ranks.rank] if size == self._ranks.size else range(size)
        return all((folder / self._own(rank, size) / name).is_file() for rank in ours for name in _files(shards[rank]))

    def _load_divided(self, shards: list[dict[str, Any]], folder: Path) -> list[str]:
        size = len(shards)
        said = f"it was written by {size} and is read by {self._ranks.size} processes: battles begin anew"
        owns = [folder / self._own(rank, size) for rank in range(size)]
        if any(shard["replay"] is None for shard in shards) or isinstance(shards[0]["battles"], dict):
            return [f"{said}, with an empty replay"]
        try:
            battles = [self._read(shard["battles"], own) for shard, own in zip(shards, owns, strict=True)]
            manifests = [(own, shard["replay"]) for own, shard in zip(owns, shards, strict=True)]
            load_shards(self._buffer, manifests, self._ranks.rank, self._ranks.size)
        except FileNotFoundError as error:
            return [f"{said}, with an empty replay, since the old one is gone ({error.filename})"]
        rollouts = [each["rollout"] for each in battles]
        episodes = sum(rollout["episodes"] for rollout in rollouts) if self._ranks.rank == 0 else 0
        self._rollout.load_state_dict(
            {**rollouts[0], "seed": self._rollout.seed, "episodes": episodes, "generator": None, "exact": False}
        )
        return [f"{said}, and the episodes of the replay were divided anew"]

    def _battles(self) -> dict[str, Any]:
        played = [episodes.to_dict() for episodes in self._ahead.wait()]
        return {"rollout": self._rollout.state_dict(), "played": played, "random": torch.get_rng_state()}

    def _save_beside(self, own: Path, name: str) -> dict[str, Any]:
        if (own, name) not in self._recent:
            file = f"battles-{name}.pt"
            write_whole(self._battles(), own / file)
            ours = {"battles": file, "replay": self._archive(own).save(self._buffer)}
            self._recent[own, name] = ours
            self._recent = dict(list(self._recent.items())[-_KEPT:])
            self._prune(own)
        return self._recent[own, name]

    def _prune(self, own: Path) -> None:
        for part in [*own.glob(".*.part*"), *(own.parent.parent.glob(".*.part*") if self._ranks.rank == 0 else ())]:
            part.unlink(missing_ok=True)  # Of a process that was killed.
        recent = [each for (where, _), each in self._recent.items() if where == own]
        if len(recent) < _KEPT:
            return
        self._archive(own).prune([each["replay"] for each in recent])
        needed = {each["battles"] for each in recent}
        for path in own.glob("battles-*.pt"):
            if path.name not in needed:
                path.unlink(missing_ok=True)
        if self._ranks.rank == 0:
            # Left by a run of another number of processes.
            for other in own.parent.glob("rank*-of-*"):
                if not other.name.endswith(f"-of-{self._ranks.size}"):
                    shutil.rmtree(other, ignore_errors=True)

    def _archive(self, own: Path) -> ReplayArchive:
        if own not in self._archives:
            self._archives[own] = ReplayArchive(own)
        return self._archives[own]

    def _read(self, battles: str | dict[str, Any], own: Path) -> dict[str, Any]:
        if isinstance(battles, dict):
            return battles
        path = own / battles
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:  # Half a file fails wherever its reader happens to stumble.
            raise ValueError(
                f"Expected the battles of a checkpoint in {path}, which cannot be read ({error}). Was it cut off, or"
                " overwritten? Go on from another checkpoint."
            ) from error
        return content

    @staticmethod
    def _own(rank: int, size: int) -> str:
        # A run that goes on with other processes must not write over the files of the checkpoint it came from.
        return f"rank{rank}-of-{size}"


def _files(shard: dict[str, Any]) -> list[str]:
    """The names of the files that a process has written for a checkpoint."""
    battles, chunks = shard["battles"], (shard["replay"] or {}).get("chunks", [])
    return [*([battles] if isinstance(battles, str) else []), *(chunk["name"] for chunk in chunks)]


def _episodes(played: dict[str, Any]) -> TensorDict:
    return TensorDict(played, played[MASK].shape[:2])
