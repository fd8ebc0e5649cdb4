import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.filming import film
from qmix_lightning.envs.battle.viewer.events import deaths_of, shots_of
from qmix_lightning.envs.battle.viewer.html import html_of
from qmix_lightning.exploration.random_policy import RandomPolicy
from tests.envs.battle.viewer.drawn import MARINE, recording, standing


@pytest.fixture(scope="module")
def battle():
    return film(BattleEnvironment("5m_vs_6m", seed=1), RandomPolicy(1), "random")


def told(page):
    """What the page's script reads."""
    (data,) = re.findall(r'<script id="battles" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def unpacked(field):
    dtype = {"u16": "<u2", "i16": "<i2", "i8": "<i1"}[field["type"]]
    return np.frombuffer(base64.b64decode(field["data"]), dtype) / field["by"]


def test_the_page_holds_the_battle(battle):
    (data,) = told(html_of([battle]))["battles"]
    frames = battle.frames[::2]
    for name, off in {
        "x": 1 / 1024, "y": 1 / 1024, "health": 1 / 128, "shield": 1 / 128, "energy": 1 / 128, "target": 0, "order": 0,
    }.items():  # fmt: skip
        values = unpacked(data["fields"][name]).reshape(frames.shape)
        np.testing.assert_allclose(values, frames[name], rtol=0, atol=off + 1e-5, err_msg=name)
    assert (data["loops"], data["stride"], data["agents"]) == (battle.loops, 2, 5)
    assert data["outcome"] == battle.outcome
    assert sum(data["rewards"]) == pytest.approx(battle.rewards.sum(), abs=1e-2)
    assert [kind["name"] for kind in data["kinds"]] == ["marine"]
    assert data["deaths"] == [at if at <= battle.loops else -1 for at in deaths_of(battle.frames).tolist()]
    shots = np.frombuffer(base64.b64decode(data["shots"]), "<i4").reshape(-1, 4)
    assert shots.tolist() == [list(shot) for shot in shots_of(battle.frames, battle.kinds).tolist()]


def test_goals_at_the_edge_of_the_map_are_told_as_far_as_the_map_goes():
    frames = standing((MARINE, 1, 16), (MARINE, 9, 16))
    frames["goal_x"][:, 0] = -1
    (data,) = told(html_of([recording(frames)]))["battles"]
    assert unpacked(data["fields"]["goal_x"]).min() == 0


def test_the_page_needs_nothing_but_itself(battle):
    page = html_of([battle])
    assert "http" not in page
    assert not re.findall(r"\b(?:src|href)\s*=|@import|url\(|\bfetch\(|XMLHttpRequest|\bimport\b", page)


def test_the_page_is_whole(battle):
    page = html_of([battle])
    assert not re.findall(r">(TITLE|STYLE|BATTLES|SCRIPT)<", page)
    assert not re.findall(r": (ALLY|ENEMY|WALL|GROUND|GRID|TEXT|FAINT);", page)
    ids = set(re.findall(r'\bid="([\w-]+)"', page))
    used = set(re.findall(r'\$\("([\w-]+)"\)|getElementById\("([\w-]+)"\)', page))
    assert {name for names in used for name in names if name} <= ids
    tints = told(page)["colours"]
    assert set(re.findall(r'(?:rgb|mix)\("([A-Z]+)"', page)) <= set(tints)


def test_the_script_can_be_read(battle, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    script = re.findall(r"<script>(.*?)</script>", html_of([battle]), re.DOTALL)[0]
    (tmp_path / "page.js").write_text(script)
    done = subprocess.run([node, "--check", tmp_path / "page.js"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_page_can_show_several_battles(battle):
    data = told(html_of([battle, recording(standing((MARINE, 9, 9), (MARINE, 12, 9)))]))
    assert [each["title"] for each in data["battles"]] == ["5m_vs_6m", "drawn"]


def test_names_cannot_end_the_script_or_the_title():
    name = "</script></title><b>&"
    page = html_of([recording(standing((MARINE, 9, 9), (MARINE, 12, 9)), team=name)])
    assert page.count("</script>") == 2
    assert page.count("</title>") == 1
    assert told(page)["battles"][0]["team"] == name


def test_an_odd_number_of_loops_is_told_one_by_one():
    battle = recording(standing((MARINE, 9, 9), (MARINE, 12, 9), loops=15), step_loops=5, rewards=np.ones(3))
    (data,) = told(html_of([battle]))["battles"]
    assert data["stride"] == 1
    assert len(unpacked(data["fields"]["x"])) == 16 * 2


def test_a_page_is_small(battle):
    assert len(html_of([battle])) < 200_000


def test_no_battle_is_refused():
    with pytest.raises(ValueError, match="Expected at least one battle to show, got none"):
        html_of([])
