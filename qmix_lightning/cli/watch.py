"""``qmix watch --config recipes/battle/3m.yaml --ckpt_path best``: battles of a trained team, to be looked at."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmix_lightning.cli.options import OptionParser
from qmix_lightning.cli.words import refuse, relative, say
from qmix_lightning.envs.registry import make
from qmix_lightning.spec import Policy, TaskSpec

if TYPE_CHECKING:
    from qmix_lightning.envs.battle.viewer.recording import Recording

_FORMATS = (".html", ".gif", ".mp4", ".png")

_Team = Callable[[TaskSpec], Policy]

_NO_MAP = "qmix watch draws battles on a map, battle/…; {} is none."

_TRIES = 500
"""Battles after which the search for a won or a lost one ends."""


def main(words: list[str]) -> None:
    """Play battles greedily and draw them.

    Args:
        words: Words after ``qmix watch``.
    """
    parser = OptionParser(
        "qmix watch",
        "Draw battles of a trained team, played greedily: as a page with a slider that any browser opens (.html), as an"
        " animation (.gif, .mp4) or as a picture (.png). Who plays is said as to qmix validate: --config RECIPE"
        " --ckpt_path CHECKPOINT, and any other of its options. Nothing is written over.",
    )
    parser.add_argument("--env", help="in place of a recipe: a map, e.g. battle/8m, on which random actions are played")
    parser.add_argument(
        "--policy", help="a scripted team in place of a trained one, e.g. focus; see qmix yardsticks --help"
    )
    parser.add_argument("--out", help="the file, whose ending says what it is; else the map's name and .html")
    parser.add_argument("--seed", type=int, default=1, help="of the battles; 1")
    parser.add_argument("--battles", type=int, default=1, help="how many; a page shows all, other files one each; 1")
    parser.add_argument("--only", choices=("won", "lost"), help="leave out battles that ended otherwise")
    parser.add_argument("--width", type=int, default=640, help="of pictures, in pixels; 640")
    parser.add_argument("--at", type=int, help="environment step that a .png shows; the middle of the battle")
    parser.add_argument("--team", help="what to call the team in the picture; else its mixer")
    options, rest = parser.parse_known_args(words)
    _refuse_bad_numbers(options)
    if options.env is None:
        if not any(word.split("=")[0] in ("--config", "-c") for word in rest):
            refuse(
                "Expected a trained team, --config RECIPE --ckpt_path CHECKPOINT, or a map for random play, --env"
                " battle/8m; got neither. qmix watch --help lists the options."
            )
        from qmix_lightning.cli.spectator import Spectator

        if options.policy and any(word.split("=")[0] == "--ckpt_path" for word in rest):
            refuse("--policy is a team, and so is --ckpt_path. Leave out one of the two.")
        Spectator(
            rest, lambda data, learner, team: _watch(options, data.env, data.env_options, lambda _: learner, team)
        )
        return
    if rest:
        refuse(f"--env plays without a recipe, but there is also {' '.join(rest)}. Leave out one of the two.")
    from qmix_lightning.exploration.random_policy import RandomPolicy

    _watch(options, options.env, {}, lambda _: RandomPolicy(options.seed), "random play")


def _refuse_bad_numbers(options: Namespace) -> None:
    if options.battles < 1:
        refuse(f"--battles counts what is shown and must be positive, got {options.battles}.")
    if options.width < 64 or options.width % 2:
        refuse(f"--width must be even and at least 64 pixels, got {options.width}.")
    ending = Path(options.out or "x.html").suffix
    if ending not in _FORMATS:
        refuse(f"--out must end in {', '.join(_FORMATS)}, got {options.out}.")
    if options.at is not None and (ending != ".png" or options.at < 0):
        refuse(f"--at is the step, from 0, that a .png shows; got --at {options.at} for {options.out or 'a page'}.")
    if ending == ".mp4":
        from qmix_lightning.envs.battle.viewer.video import encoder

        try:
            encoder()
        except ImportError as error:
            refuse(str(error))


def _watch(options: Namespace, name: str, env_options: dict[str, Any], make_team: _Team, team: str) -> None:
    """Play, draw and say where it is."""
    if not name.startswith("battle/") and "/" in name:
        refuse(_NO_MAP.format(name))
    if options.policy:
        from qmix_lightning.envs.battle.scripted.registry import scripted_policy

        make_team, team = partial(scripted_policy, options.policy, **env_options), f"scripted {options.policy}"
    try:
        battles = list(_filmed(options, name, env_options, make_team, options.team or team))
    except ValueError as error:  # An unknown map or team, or an option that there is not.
        refuse(str(error))
    out = Path(options.out or f"{battles[0].title}.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    taken = f"; {relative(out)} was there before" if out.exists() else ""
    for part in [battles] if out.suffix == ".html" else [[battle] for battle in battles]:
        path = _free(out)
        _write(path, part, options)
        size = path.stat().st_size / 1024
        say(f"{_outcomes(part)}:", f"{relative(path)} ({size:,.0f} KiB{taken})")


def _filmed(
    options: Namespace, name: str, env_options: dict[str, Any], make_team: _Team, team: str
) -> Iterator[Recording]:
    """The battles of a seed, one after the other, as many as are asked for."""
    from qmix_lightning.envs.battle.env import BattleEnvironment
    from qmix_lightning.envs.battle.filming import film

    env = make(name, seed=options.seed, **env_options)
    if not isinstance(env, BattleEnvironment):  # A world of one's own.
        refuse(_NO_MAP.format(name))
    found, policy = 0, make_team(env.spec)
    for _ in range(max(_TRIES, options.battles)):
        battle = film(env, policy, team)
        if options.only is None or (battle.outcome == "won") == (options.only == "won"):
            found += 1
            yield battle
        if found == options.battles:
            return
    refuse(f"Of {_TRIES} battles {found} were {options.only}, {options.battles} were asked for. Take another --seed.")


def _outcomes(battles: Sequence[Recording]) -> str:
    ended = [battle.outcome for battle in battles]
    told = f"{ended[0]} after {battles[0].steps} steps" if len(ended) == 1 else f"{len(ended)} battles"
    told += f", {ended.count('won')} won" if len(ended) > 1 else ""
    return f"{battles[0].title}, {battles[0].team}, {told}"


def _free(path: Path) -> Path:
    """The path, or with a number added the first that nothing is written to yet."""
    return next(
        free for number in count() if not (free := path.with_stem(f"{path.stem}-{number}") if number else path).exists()
    )


def _write(path: Path, battles: Sequence[Recording], options: Namespace) -> None:
    if path.suffix == ".html":
        from qmix_lightning.envs.battle.viewer.html import html_of

        path.write_text(html_of(battles), encoding="utf-8")
        return
    from qmix_lightning.envs.battle.viewer.drawing import BattlePainter
    from qmix_lightning.envs.battle.viewer.reel import LOOPS_A_SECOND, reel

    (battle,) = battles
    painter = BattlePainter(battle, width=options.width)
    if path.suffix == ".png":
        at = battle.loops // 2 if options.at is None else min(options.at * battle.step_loops, painter.last)
        painter.paint(at).save(path)
    elif path.suffix == ".gif":
        from qmix_lightning.envs.battle.viewer.gif import gif_of

        path.write_bytes(gif_of(*reel(painter)))
    else:
        from qmix_lightning.envs.battle.viewer.video import write_mp4

        last = round(2 * LOOPS_A_SECOND)  # The end lingers.
        pictures = (painter.paint(loop) for loop in range(painter.last + last))
        write_mp4(path, pictures, size=painter.size, rate=LOOPS_A_SECOND)
