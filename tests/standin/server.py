"""``SC2_x64`` without StarCraft II: one process, one session, one client at a time."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import time
from pathlib import Path

from tests.standin.frames import Connection
from tests.standin.script import Script


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-listen", default="127.0.0.1")
    parser.add_argument("-port", type=int, required=True)
    parser.add_argument("-dataDir", dest="home", type=Path, required=True)
    arguments, _ = parser.parse_known_args()
    launch = count_launch(arguments.home)
    script = Script.read(arguments.home).fails_in(launch)
    if script.die_at_launch:
        raise SystemExit(1)
    time.sleep(script.listen_delay)

    from tests.standin.session import Session  # only now, because it takes a second

    log = arguments.home / f"requests-{launch}.log" if script.log else None
    session = Session(script, log)
    with socket.create_server((arguments.listen, arguments.port)) as listening:
        while not session.over:
            serve(listening.accept()[0], session)


def count_launch(home):
    """Number of this launch of the installation."""
    with (home / "launches").open("a+") as started:
        fcntl.flock(started, fcntl.LOCK_EX)
        started.seek(0)
        number = len(started.readlines())
        started.write(f"{os.getpid()}\n")
    return number


def serve(sock, session):
    """Answer one client until it goes, the session is over or it is time to fail."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection = Connection(sock)
    except ConnectionError:
        sock.close()
        return
    while not session.over and (message := connection.receive()) is not None:
        answer = session.answer(message)
        if session.hangs:
            signal.pause()
        if session.crashes:
            os._exit(139)
        connection.send(answer)
    connection.close()


if __name__ == "__main__":
    main()
