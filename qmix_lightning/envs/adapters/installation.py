"""What StarCraft II needs on this machine, looked up without starting or importing anything of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

Family = Literal["smac", "smacv2"]

DOWNLOAD: Final = "https://github.com/Blizzard/s2client-proto#linux-packages"
"""Where the game for Linux is, with its licence, which one must accept oneself."""

_IN_ARCHIVE: Final = "StarCraftII"
"""The game's folder in what is downloaded."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Args:
        what: What it is.
        found: What is there, or that nothing is.
        cure: What to do; empty if all is well.
    """

    what: str
    found: str
    cure: str = ""


def examine(family: Family, map_file: str, game_version: str | None = None) -> Iterator[Finding]:
    """Look for everything that battles in StarCraft II need, in the order in which it is installed.

    Args:
        family: Which package plays them.
        map_file: Name of the map's file, without its ending.
        game_version: The version that is asked for, e.g. ``"4.10.0"``; None is the newest that is there.
    """
    yield _package(family)
    yield _pysc2()
    home = game_home()
    yield _home(home)
    yield _program(home, game_version)
    yield _map(family, home, map_file)


def refuse_incomplete(family: Family, map_file: str, game_version: str | None, instead: str) -> None:
    """Say in two lines what is missing and what to do.

    Args:
        family: Which package plays.
        map_file: Name of the map's file.
        game_version: The version that is asked for, if any.
        instead: An environment that needs none of this.

    Raises:
        ValueError: If something is missing.
    """
    for finding in examine(family, map_file, game_version):
        if finding.cure:
            raise ValueError(
                f"{finding.what}: {finding.found}. {finding.cure} (`qmix doctor {family}` checks all of it.)\n"
                f"Without StarCraft II, train in the embedded simulator: data.env={instead}"
            )


def game_home() -> Path:
    """Where StarCraft II is, or would be: what pysc2 goes by."""
    return Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()


def map_path(home: Path, map_file: str) -> Path:
    """Where pysc2 looks for a map of SMAC."""
    return home / "Maps" / "SMAC_Maps" / f"{map_file}.SC2Map"


def build_of(home: Path) -> int | None:
    """The newest build that is installed."""
    builds = [int(path.parent.name.removeprefix("Base")) for path in home.glob("Versions/Base*/SC2_x64")]
    return max(builds, default=None)


def installed_versions(family: Family, home: Path, map_file: str, game_version: str | None) -> dict[str, str]:
    """What results depend on: they differ between builds of the game, and cannot be compared."""
    names = [family, "pysc2", "s2clientprotocol", "protobuf"]
    told = {name: _version_of(name) for name in names}
    told["StarCraft II"] = game_version or f"Base{build_of(home)}"
    told["map sha256"] = hashlib.sha256(map_path(home, map_file).read_bytes()).hexdigest()
    return told


def _package(family: Family) -> Finding:
    what, install = f"Package {family}", f"pip install --no-deps git+https://github.com/oxwhirl/{family}.git"
    spec = importlib.util.find_spec(family)
    if spec is None or spec.origin is None:  # A mere folder of that name, like a clone that was not installed, is none.
        other = " (PyPI's smac is another project)" if family == "smac" else ""
        return Finding(what, "not installed", f"Install oxwhirl's{other}: {install}")
    homes = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not any((home / "env/starcraft2/starcraft2.py").exists() for home in homes):
        return Finding(
            what,
            f"{_version_of(family)}, which is not oxwhirl's but another project of that name",
            f"Replace it: pip uninstall -y {family} && {install}",
        )
    return Finding(what, f"oxwhirl's {_version_of(family)}")


def _pysc2() -> Finding:
    if importlib.util.find_spec("pysc2") is None:
        return Finding("Package pysc2", "not installed", "Install it: pip install pysc2")
    return Finding("Package pysc2", f"{_version_of('pysc2')} with protobuf {_version_of('protobuf')}")


def _home(home: Path) -> Finding:
    what = "StarCraft II" if "SC2PATH" in os.environ else "StarCraft II (SC2PATH is not set)"
    if home.is_dir():
        return Finding(what, str(home))
    return Finding(what, f"there is no folder {home}", _unzip(home))


def _program(home: Path, game_version: str | None) -> Finding:
    build = build_of(home)
    if build is None:
        return Finding("Program SC2_x64", f"none in {home / 'Versions'}/Base*", _unzip(home))
    return Finding("Program SC2_x64", f"Base{build}" + (f", asked for {game_version}" if game_version else ""))


def _unzip(home: Path) -> str:
    unpack = f"unzip SC2.4.10.zip -d {shlex.quote(str(home.parent))}"
    if home.name != _IN_ARCHIVE:
        unpack += f" && export SC2PATH={shlex.quote(str(_home_to_be(home)))}"
    return f"Set SC2PATH to where the game is, or download a version of it from {DOWNLOAD} and unpack it: {unpack}"


def _home_to_be(home: Path) -> Path:
    """Where the game will be once it has been unpacked, if it is not there yet."""
    return home if home.is_dir() and build_of(home) is not None else home.with_name(_IN_ARCHIVE)


def _map(family: Family, home: Path, map_file: str) -> Finding:
    path, what = map_path(home, map_file), f"Map {map_file}"
    if path.is_file():
        return Finding(what, str(path))
    # The packages' setup.py leaves their maps out.
    source, target = f"{family}/{family}/env/starcraft2/maps/SMAC_Maps", shlex.quote(str(_home_to_be(home) / "Maps"))
    clone = f"git clone https://github.com/oxwhirl/{family} && mkdir -p {target} && cp -r {source} {target}"
    return Finding(what, f"there is no {path}", f"Copy the maps: {clone}")


def _version_of(name: str) -> str:
    """Version of a package, and its commit where it was installed from a repository."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{package.version} ({commit[:12]})" if commit else package.version
