"""Runs of the command line in processes of their own, some at a time, and what they have come to."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

_LOOK_SECONDS = 0.25
_GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Job:
    """A command, where its output goes, and how it went.

    Args:
        name: What it is called on the screen.
        words: Words after ``qmix``.
        output: File that its output is added to.
    """

    name: str
    words: Sequence[str]
    output: Path
    status: int | None = None
    seconds: float = 0.0

    def news(self) -> str:
        """The last evaluation that it has printed."""
        return next((line.rstrip() for line in reversed(self.tail().splitlines()) if " env steps " in line), "")

    def tail(self, size: int = 4096) -> str:
        """The end of its output."""
        if not self.output.exists():
            return ""
        with self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - size))
            return file.read().decode(errors="replace")


def side_by_side(jobs: Sequence[Job], at_once: int, console: Console) -> Generator[Job]:
    """Run commands of ``qmix``, each in a process of its own, and show how they are doing.

    The processes divide the cores among them, unless the environment says how many threads they may have. All of them
    end with the iteration: when it is left early, or when this process dies, by whatever signal.

    Args:
        jobs: What to run, in this order.
        at_once: How many may run at a time.
        console: Where to show it: a table on a terminal, lines elsewhere.

    Yields:
        Each job when it has ended.
    """
    waiting, running = deque(jobs), list[tuple[Job, subprocess.Popen[bytes], float]]()
    view = _Board(jobs, console) if console.is_terminal else _Lines(console)
    environment = _divided(os.environ, at_once)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                with _undisturbed():
                    running.append((job, _start(job, environment), time.monotonic()))
            time.sleep(_LOOK_SECONDS)
            for entry in list(running):
                job, process, since = entry
                job.seconds, job.status = time.monotonic() - since, process.poll()
                view.show(job)
                if job.status is not None:
                    running.remove(entry)
                    yield job
    finally:
        view.close()
        _stop([process for _, process, _ in running])


def _divided(environment: Mapping[str, str], at_once: int) -> dict[str, str]:
    if at_once == 1:
        return dict(environment)
    share = str(max(1, len(os.sched_getaffinity(0)) // at_once))
    return {**dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), share), **environment}


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    with job.output.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "qmix_lightning", *job.words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C reaches this process alone, which ends its runs; should it be killed itself, the kernel does.
            process_group=0,
            preexec_fn=_begin_anew,
        )


_LIBC = ctypes.CDLL(None)
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let interrupts wait: while a process forks, Python drops them, and one that is not noted down is not ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_anew() -> None:
    """In a new process: hear interrupts, also where a shell in the background does not, and die with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        os.killpg(process.pid, signal.SIGINT)
    until = time.monotonic() + _GRACE_SECONDS
    try:
        for process in processes:
            process.wait(max(0.0, until - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class _Lines:
    """Prints a line when a job has news, and when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, str] = {}

    def show(self, job: Job) -> None:
        news = job.news()
        if news and news != self._printed.get(job.name):
            self._printed[job.name] = news
            self._line(job, news)
        if job.status is not None:
            self._line(job, _state(job))

    def _line(self, job: Job, text: str) -> None:
        self._console.print(f"{job.name}: {text}", highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to be done."""


class _Board:
    """Keeps one line a job on the screen."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._jobs = jobs
        self._news = {job.name: "" for job in jobs}
        # Without a thread that draws: a process with threads is not safe to start others from.
        self._live = Live(self._table(), console=console, auto_refresh=False)
        self._live.start()

    def show(self, job: Job) -> None:
        self._news[job.name] = job.news()
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for job in self._jobs:
            table.add_row(f"[bold]{job.name}[/]", _state(job), self._news[job.name])
        return table

    def close(self) -> None:
        self._live.stop()


def _state(job: Job) -> str:
    if job.status is None:
        return f"running for {job.seconds:,.0f} s" if job.seconds else "waiting"
    return f"finished in {job.seconds:,.0f} s" if job.status == 0 else f"failed with status {job.status}"
