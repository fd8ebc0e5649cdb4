"""A disk that is really full."""

import shutil
import subprocess
import sys

import pytest


def run_on_a_small_disk(script, folder, *arguments, size="1m"):
    """Run a script for which a folder is a disk of its own, of so many bytes, and return the lines that it prints."""
    mount = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None:
        pytest.skip("util-linux is not installed")
    if subprocess.run([*inside, f"{mount}", size, folder, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not permitted")
    command = [*inside, mount, size, folder, sys.executable, "-c", script, folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
