import sys
from importlib import invalidate_caches

import pytest

from qmix_lightning.cli.doctor import main
from qmix_lightning.envs.adapters.installation import examine, installed_versions, refuse_incomplete
from qmix_lightning.envs.registry import make

EVERYTHING = list(sys.path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine where only what a test puts there can be found: packages by their files, and a folder of the game."""
    packages, home = tmp_path / "packages", tmp_path / "StarCraftII"
    packages.mkdir()
    for name in ("smac", "smacv2", "pysc2"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    # In front of everything: other installations of the same names are hidden by what is here, or by nothing.
    monkeypatch.setattr(sys, "path", [str(packages), *(p for p in sys.path if "site-packages" not in p)])
    monkeypatch.setenv("SC2PATH", str(home))
    invalidate_caches()

    def put(*paths):
        for path in paths:
            file = (home if path.startswith(("Versions", "Maps")) else packages) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        invalidate_caches()
        return home

    return put


SMAC = ("smac/__init__.py", "smac/env/starcraft2/starcraft2.py")
PYSC2, PROGRAM, MAP = "pysc2/__init__.py", "Versions/Base75689/SC2_x64", "Maps/SMAC_Maps/3m.SC2Map"


def missing(family="smac", map_file="3m"):
    return [finding.what for finding in examine(family, map_file) if finding.cure]


def test_all_that_is_missing_is_found_in_the_order_of_its_installation(machine):
    assert missing() == ["Package smac", "Package pysc2", "StarCraft II", "Program SC2_x64", "Map 3m"]
    machine(*SMAC)
    assert missing() == ["Package pysc2", "StarCraft II", "Program SC2_x64", "Map 3m"]
    machine(PYSC2, PROGRAM)
    assert missing() == ["Map 3m"]
    machine(MAP)
    assert missing() == []
    assert missing("smacv2", "32x32_flat") == ["Package smacv2", "Map 32x32_flat"]


def refusal(map_file="3m"):
    with pytest.raises(ValueError, match=r"\n") as refused:
        refuse_incomplete("smac", map_file, None, f"battle/{map_file}")
    return str(refused.value).splitlines()


def test_without_the_package_two_lines_name_it_and_the_way_on(machine):
    first, second = refusal()
    install = "pip install --no-deps git+https://github.com/oxwhirl/smac.git"
    words = f"Package smac: not installed. Install oxwhirl's (PyPI's smac is another project): {install}"
    assert first.startswith(words)
    assert "`qmix doctor smac`" in first
    assert second == "Without StarCraft II, train in the embedded simulator: data.env=battle/3m"


def test_a_clone_that_was_not_installed_does_not_pass_for_another_project(machine):
    machine("smac/smac/__init__.py", "smac/smac/env/starcraft2/starcraft2.py")
    assert refusal()[0].startswith("Package smac: not installed.")


def test_pypis_package_of_that_name_is_told_apart(machine):
    machine("smac/__init__.py", "smac/facade/__init__.py")
    first, second = refusal()
    assert "which is not oxwhirl's but another project of that name" in first
    assert "pip uninstall -y smac && pip install --no-deps git+https://github.com/oxwhirl/smac.git" in first
    assert "data.env=battle/3m" in second


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ((), r"StarCraft II: there is no folder .*StarCraftII\. Set SC2PATH to where .* or download a version"),
        (
            ("Versions/Base1/x",),
            r"Program SC2_x64: none in .*Versions/Base\*\. Set SC2PATH .* unzip SC2.4.10.zip -d",
        ),
        ((PROGRAM,), r"Map 3m: there is no .*3m.SC2Map\. Copy the maps: git clone https://github.com/oxwhirl/smac && "),
    ],
)
def test_each_part_of_the_game_has_its_cure(machine, there, words):
    machine(*SMAC, PYSC2, *there)
    with pytest.raises(ValueError, match=words):
        refuse_incomplete("smac", "3m", None, "battle/3m")


def test_the_newest_build_and_the_maps_checksum_are_told(machine):
    home = machine(*SMAC, PYSC2, PROGRAM, "Versions/Base69232/SC2_x64", MAP)
    told = installed_versions("smac", home, "3m", None)
    assert told["StarCraft II"] == "Base75689"
    assert told["map sha256"].startswith("2d711642b726b044")
    assert installed_versions("smac", home, "3m", "4.6.2")["StarCraft II"] == "4.6.2"


def test_an_environment_is_refused_in_the_same_words(machine):
    with pytest.raises(
        ValueError, match=r"Package smac: not installed\. .*\nWithout StarCraft II, .* data.env=battle/8m"
    ):
        make("smac/8m")
    with pytest.raises(ValueError, match=r"Package smacv2: not installed\. .*\n.* data.env=battle/zerg_5_vs_5"):
        make("smacv2/zerg_5_vs_5")


def test_the_doctor_lists_what_is_missing_and_the_commands_that_mend_it(machine, capsys):
    machine(*SMAC, PYSC2, PROGRAM)
    with pytest.raises(SystemExit, match="1"):
        main([])
    said = capsys.readouterr().out
    assert "│ missing │ Map 3m" in said
    assert "│ ok      │ Program SC2_x64 │ Base75689" in said
    assert "1. Copy the maps: git clone https://github.com/oxwhirl/smac && mkdir -p " in said
    assert "2." not in said.partition("1. Copy")[2].replace("SC2", "")
    assert "data.env=battle/3m" in said
    assert "One battle" not in said


def test_the_doctor_tells_each_cure_once_and_recommends_the_battle_that_was_asked_for(machine, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["smac", "--map", "MMM"])
    said = capsys.readouterr().out
    assert "4. Copy the maps" in said
    assert said.count("unzip SC2.4.10.zip") == 1
    assert said.strip().endswith("data.env=battle/MMM")


def test_where_the_archive_s_folder_has_another_name_the_cure_says_so(machine, tmp_path, monkeypatch, capsys):
    machine(*SMAC, PYSC2)
    monkeypatch.setenv("SC2PATH", str(tmp_path / "games/sc2"))
    with pytest.raises(SystemExit, match="1"):
        main([])
    said = capsys.readouterr().out
    home = tmp_path / "games/StarCraftII"
    assert f"unzip SC2.4.10.zip -d {home.parent} && export SC2PATH={home}\n" in said
    assert f"mkdir -p {home}/Maps && " in said


def test_the_doctor_tells_why_a_battle_failed(machine, capsys, monkeypatch):
    # All files are there, and none is what it should be.
    machine(*SMAC, PYSC2, PROGRAM, MAP)
    # A game's process needs numpy, too.
    monkeypatch.setattr(sys, "path", [sys.path[0], *EVERYTHING])
    with pytest.raises(SystemExit, match="1"):
        main(["smac", "--map", "3m"])
    said = capsys.readouterr().out
    assert "│ missing │ One battle of smac/3m │ cannot be made" in said
    assert "1. The first game could not be made: " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smack"], "examines smac or smacv2, got smack"),
        (["smac", "--map", "terran_5_vs_5"], "Unknown map 'terran_5_vs_5' of smac. Known are 10m_vs_11m"),
        (["smac", "--mop", "3m"], "examines smac or smacv2, got --mop 3m"),
    ],
)
def test_the_doctor_refuses_words_that_it_does_not_know(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in " ".join(capsys.readouterr().err.split())
