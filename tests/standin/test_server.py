"""The process that pysc2 takes for StarCraft II."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

import pytest

from tests.standin.install import install, launches
from tests.standin.script import NAME, Script
from tests.standin.test_frames import HELLO, frame

pytest.importorskip("s2clientprotocol")

from tests.standin.session import api


@contextlib.contextmanager
def launch(home):
    """The process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = home / "Versions/Base75689/SC2_x64"
    command = [program, "-listen", "127.0.0.1", "-port", str(port), "-dataDir", f"{home}/", "-tempDir", "/tmp"]
    process = subprocess.Popen(command)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def connect(port):
    for _ in range(600):
        with contextlib.suppress(ConnectionRefusedError):
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            client.sendall(HELLO % b"/sc2api")
            assert client.recv(1000).startswith(b"HTTP/1.1 101")
            return client
        time.sleep(0.05)
    raise AssertionError("it never listened")


def ping(client):
    client.sendall(frame(api.Request(ping=api.RequestPing()).SerializeToString()))
    answer = client.recv(1000)
    return api.Response.FromString(answer[2:]) if answer else None


def test_it_answers_until_it_is_told_to_quit(tmp_path):
    home = install(tmp_path, ["3m"], log=True)
    assert launches(home) == 0
    with launch(home) as (process, port):
        with connect(port) as client:
            assert ping(client).status == api.launched
        with connect(port) as client:  # it goes on listening
            assert ping(client).status == api.launched
            client.sendall(frame(api.Request(quit=api.RequestQuit()).SerializeToString()))
            client.recv(1000)
        assert process.wait(5) == 0
    assert launches(home) == 1
    assert (home / "requests-0.log").read_text().split() == ["ping", "ping", "quit"]
    assert (home / "Maps/SMAC_Maps/3m.SC2Map").exists()


def test_it_crashes_as_told_and_only_in_the_launches_named(tmp_path):
    home = install(tmp_path, ["3m"], crash_at=1, launches=[0])
    with launch(home) as (process, port), connect(port) as client:
        assert ping(client) is None
        assert process.wait(5) == 139
    with launch(home) as (_, port), connect(port) as client:
        assert ping(client).status == api.launched


def test_it_hangs_as_told(tmp_path):
    with launch(install(tmp_path, [], hang_at=1)) as (process, port), connect(port) as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ping(client)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


def test_it_dies_before_it_listens_as_told(tmp_path):
    with launch(install(tmp_path, [], die_at_launch=True)) as (process, _):
        assert process.wait(20) == 1


def test_a_script_survives_its_file(tmp_path):
    script = Script(battle={"enemy_order": "sorted"}, crash_after=["debug", "step"], launches=[1], end_at_loop=3)
    script.write(tmp_path)
    assert Script.read(tmp_path) == script
    assert json.loads((tmp_path / NAME).read_text())["end_at_loop"] == 3


def test_a_script_s_faults_are_those_of_its_launches():
    script = Script(launches=[1], crash_at=5, crash_after=["debug"], end_at_loop=3, pathing_bits=8)
    assert script.fails_in(1) == script
    assert script.fails_in(0) == Script(launches=[1], pathing_bits=8)
    assert Script(crash_at=5).fails_in(7).crash_at == 5
