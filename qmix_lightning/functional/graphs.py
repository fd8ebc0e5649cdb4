"""Steps of an accelerator that are recorded once and replayed from then on, without Python between their operations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import torch
from torch import Generator

_LOG: Final = logging.getLogger("qmix_lightning.graphs")

REHEARSALS: Final = 2
"""Steps played before one is recorded, in which code is compiled and memory is found."""


class Graph(Protocol):
    """Operations of an accelerator that it can run again, in the same order on the same memory."""

    def rehearse(self, step: Callable[[], None]) -> None:
        """Run a step where it will be recorded."""
        ...

    def capture(self, step: Callable[[], None], generators: Sequence[Generator]) -> None:
        """Record a step without running it; each replay draws new numbers from the generators."""
        ...

    def replay(self) -> None:
        """Run what was recorded."""
        ...

    def beside(self) -> Graph:
        """Another graph, in the same memory, of which no two ever run at a time."""
        ...


class CudaGraph:
    """A :class:`Graph` of a GPU.

    Args:
        device: Which GPU.
        pool: Memory that it shares with other graphs; None gives it some of its own.
    """

    def __init__(self, device: torch.device, pool: Any = None) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        self._pool = torch.cuda.graph_pool_handle() if pool is None else pool

    def rehearse(self, step: Callable[[], None]) -> None:
        """Run a step on the stream of the recording."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            step()
        here.wait_stream(self._stream)

    def capture(self, step: Callable[[], None], generators: Sequence[Generator]) -> None:
        """Record a step; other threads may use the GPU meanwhile."""
        drawn = (*generators, torch.cuda.default_generators[self._device.index])
        before, here = [generator.clone_state() for generator in drawn], torch.cuda.current_stream(self._device)
        recording = torch.cuda.graph(self._graph, self._pool, self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(self._device):
            try:
                for generator in generators:
                    self._graph.register_generator_state(generator)
                with recording:
                    step()
            except Exception:
                # One that broke off leaves its stream the current one, and generators of which nobody could draw.
                torch.cuda.set_stream(here)
                for generator, state in zip(drawn, before, strict=True):
                    generator.graphsafe_set_state(state)
                raise

    def replay(self) -> None:
        """Run what was recorded, on the current stream."""
        self._graph.replay()

    def beside(self) -> CudaGraph:
        """Another graph, in the same memory and recorded on the same stream, as a gradient needs it."""
        graph = CudaGraph(self._device, self._pool)
        graph._stream = self._stream
        return graph


GRAPHS: Final[dict[str, Callable[[torch.device], Graph]]] = {"cuda": CudaGraph}
"""Who makes a graph, by the type of a device."""


class ReplayedStep:
    """A step that is recorded after some calls and replayed in all later ones; as it is called, if that fails.

    Args:
        step: Reads and writes tensors that stay where they are in memory, on one accelerator. What its Python does
            beside that is done in the first calls only.
        device: That accelerator, of a type in :data:`GRAPHS`.
        generators: Of the random numbers of the step, on the device.
        name: What the step is, in the log.

    Attributes:
        replays: Calls that were replays.
    """

    def __init__(
        self, step: Callable[[], None], device: torch.device, generators: Sequence[Generator] = (), name: str = "step"
    ) -> None:
        self._step, self._generators, self._name = step, generators, name
        self._graph: Graph | None = GRAPHS[device.type](device)
        self._rehearsals = self.replays = 0

    def __call__(self) -> None:
        """Play the step."""
        if self._graph is not None and self._rehearsals < REHEARSALS:
            self._rehearsals += 1
            self._graph.rehearse(self._step)
            return
        if self._graph is not None and self.replays == 0:
            self._capture(self._graph)
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
            self.replays += 1

    def _capture(self, graph: Graph) -> None:
        try:
            graph.capture(self._step, self._generators)
        except Exception as error:  # whatever it is: the step itself will raise it again if it is no matter of graphs
            say_why_not(self._name, error)
            self._graph = None
        else:
            say_since_when(self._name)


def say_since_when(name: str) -> None:
    """Log that a step is replayed."""
    _LOG.info("The %s was recorded, and is replayed from a graph from now on.", name)


def say_why_not(name: str, reason: str | Exception) -> None:
    """Log why a step is called operation by operation instead of being replayed."""
    if isinstance(reason, Exception):
        # The end of a recording that broke off raises, too, and says less than what broke it.
        cause = reason.__context__ or reason
        reason = f"{type(cause).__name__}: {cause}"
    _LOG.warning("The %s is not replayed from a graph: %s", name, reason)
