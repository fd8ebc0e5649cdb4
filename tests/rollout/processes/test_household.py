import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from qmix_lightning.rollout.processes.household import Household
from qmix_lightning.rollout.processes.process import exists
from qmix_lightning.rollout.workers import WorkerRollout
from tests.fakes import CountingPolicy
from tests.games import CountingGame
from tests.training import ROOT

PARENT = """
import os, sys, time
from functools import partial
from tests.games import CountingGame
from tests.fakes import CountingPolicy
from qmix_lightning.rollout.workers import WorkerRollout
from qmix_lightning.rollout.processes.patience import Patience

rollout = WorkerRollout(partial(CountingGame, child=True), 2, patience=Patience(stagger=0.0))
policy = CountingPolicy(rollout.spec)
while None in rollout.pids:
    rollout.step(policy, explore=True)
if "fork" in sys.argv and os.fork() == 0:
    # A descendant that keeps every line of its parent open, as a worker of a data loader would.
    time.sleep(60)
print(*rollout.pids, rollout._pool._household._guardian.pid, rollout._pool._household._folder, flush=True)
while True:
    rollout.step(policy, explore=True)
"""


def gone(check, seconds=10):
    began = time.monotonic()
    while check() and time.monotonic() < began + seconds:
        time.sleep(0.02)
    return not check()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("case", ["alone", "fork"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_survives_its_parent(case, number):
    command = [sys.executable, "-c", PARENT, case]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as parent:
        *groups, guardian, folder = parent.stdout.readline().split()
        assert len(groups) == 2
        assert all(exists(int(group)) for group in groups)
        assert Path(folder).is_dir()
        parent.send_signal(number)
        parent.wait()
        for group in groups:
            assert gone(lambda group=group: exists(int(group)))
        assert gone(lambda: alive(int(guardian)))
        assert gone(Path(folder).exists)
        with suppress(ProcessLookupError):  # What it forked is nobody's but the test's.
            os.killpg(parent.pid, signal.SIGKILL)


def test_processes_outlive_the_thread_that_started_them():
    made = []
    thread = threading.Thread(target=lambda: made.append(WorkerRollout(CountingGame, 2)))
    thread.start()
    thread.join()
    (rollout,) = made
    try:
        policy = CountingPolicy(rollout.spec)
        for _ in range(20):
            time.sleep(0.01)
            rollout.step(policy, explore=True)
        assert not rollout.restarts
    finally:
        rollout.close()


def test_a_household_ends_what_it_adopted_and_removes_its_rooms():
    household = Household()
    ours, dismissed = (subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2))
    rooms = [household.room(), household.room()]
    assert rooms[0] != rooms[1]
    household.adopt(ours.pid)
    household.adopt(dismissed.pid)
    household.dismiss(dismissed.pid)
    household.close()
    assert ours.wait(5) == -signal.SIGKILL
    assert dismissed.poll() is None
    assert not any(room.exists() for room in rooms)
    dismissed.kill()
    dismissed.wait()
    household.adopt(1)  # Too late, and nobody minds.
