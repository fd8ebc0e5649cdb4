"""The command line: ``qmix fit|validate|test --config recipes/battle/3m.yaml``."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from argparse import ArgumentError
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from qmix_lightning.callbacks import (
    BattleFilm,
    BattleProgress,
    BestCheckpoint,
    LastCheckpoint,
    ReplayPriorities,
    TogetherOnSigterm,
    cockpit,
)
from qmix_lightning.checkpointing import AtomicCheckpointIO
from qmix_lightning.cli.options_file import OptionsFile
from qmix_lightning.cli.overhead import NoProfiler, keep_freed_memory, skip_empty_hooks
from qmix_lightning.cli.resume import WORDS, checkpoint_of, chosen_run, newest_run
from qmix_lightning.cli.room import room_asked_for
from qmix_lightning.cli.schedule import refuse_bad_schedule, refuse_unfit_trainer
from qmix_lightning.cli.words import in_a_line, refuse, refuse_unwritable, relative, say
from qmix_lightning.datamodule import ReplayDataModule
from qmix_lightning.launching import check_world_size, cluster_plugins, settled_arguments, trainer_defaults
from qmix_lightning.learning_rate import refuse_other_optimizer
from qmix_lightning.logger import EnvStepLogger
from qmix_lightning.module import OUTCOMES, QLearner


class QMixCLI(LightningCLI):
    """A LightningCLI for QLearner and ReplayDataModule which answers bad input in a line or two."""

    def __init__(self, args: list[str] | None = None) -> None:
        self._goes_on = False
        self._checkpoint: str | None = None
        options = {"allow_abbrev": False, "exit_on_error": False}
        super().__init__(
            QLearner,
            ReplayDataModule,
            args=args,
            seed_everything_default=1,
            parser_kwargs={**{name: dict(options) for name in self.subcommands()}, **options},
            trainer_defaults={
                "accelerator": "auto",
                "devices": 1,
                "max_steps": 2_000,
                "val_check_interval": 100,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 20,
                "gradient_clip_val": 10.0,
                "enable_model_summary": False,
                **trainer_defaults(),
            },
            save_config_callback=OptionsFile,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, each with the arguments of the trainer's method that the command line fills in itself."""
        commands = LightningCLI.subcommands()
        return {name: commands[name] | {"verbose", "weights_only"} for name in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let the environment tell the learner the task's sizes, and make the checkpoint an option of its own."""
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_class_arguments(BattleFilm, "film")
        parser.add_argument(
            "--float32_matmul_precision",
            type=Literal["highest", "high", "medium"],
            default="highest",
            help="How exactly matrices of float32 are multiplied, as torch.set_float32_matmul_precision has it: `high`"
            " takes TF32 on a GPU, with 10 of 23 bits behind the point, which is faster where networks are wide.",
        )
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/win_rate",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best-{step}",
                # What a run wrote before it was killed is written again by the one that goes on with it.
                "checkpoint.enable_version_counter": False,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, or say in a line what is wrong."""
        for sub in self._subcommand_parsers.values():
            for action in sub._actions:
                if action.dest == "ckpt_path":  # Lightning's words promise keywords that mean nothing in a new folder.
                    action.help = (
                        "Path of the checkpoint to go on from, or to evaluate; `last` goes on with the recipe's newest"
                        " run, in its folder, where its last checkpoint stands; `best` is that run's best."
                    )
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            actions = [action for sub in self._subcommand_parsers.values() for action in sub._actions]
            refuse(in_a_line(error.message, [option for action in actions for option in action.option_strings]))

    def before_instantiate_classes(self) -> None:
        """Choose how matrices are multiplied, before there are any."""
        torch.set_float32_matmul_precision(self._get(self.config, "float32_matmul_precision"))

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the checkpoint's hyper-parameters overrule the command line.
        return

    def instantiate_classes(self) -> None:
        """Make data, model and trainer, or say in a line what is wrong."""
        try:
            super().instantiate_classes()
            check_world_size(self.trainer.world_size)
        except (ValueError, TypeError, OSError, RuntimeError, MisconfigurationException) as error:
            refuse(str(error))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Log a fit to a folder of its own below ``logs/``, or to that of the run that it goes on with."""
        asked, fits = self._get(self.config_init, "trainer"), self.subcommand == "fit"
        refuse_unfit_trainer(asked)
        kwargs |= settled_arguments(asked)
        logger = asked["logger"]
        if logger is None or (logger is True and fits):
            logger = kwargs["logger"] = EnvStepLogger(self.datamodule.env.replace("/", "-")) if fits else False
        self._checkpoint = self._get(self.config, "ckpt_path")
        if self._checkpoint in WORDS:
            self._find_checkpoint(logger, chosen=asked["logger"] not in (None, True))
        if not fits:
            # An evaluation writes nothing.
            self.save_config_callback = None
        callbacks: list[Callback] = cockpit(
            agent=self._made("agent"), mixer=self._made("mixer"), film=self._get(self.config_init, "film")
        )
        if asked["enable_progress_bar"] is not False:
            callbacks.append(BattleProgress())
        own = asked["callbacks"] or []
        own = own if isinstance(own, list) else [own]
        if self.datamodule.prioritised and ReplayPriorities not in map(type, own):
            callbacks.append(ReplayPriorities())
        # Lightning's save_last writes only when the best is written, which can be long before the end. Without
        # evaluations, when they would be.
        every = asked["val_check_interval"] if asked["limit_val_batches"] == 0 else None
        if every:  # Then nobody looks for a best one.
            warnings.filterwarnings("ignore", message=".*could not find the monitored key")
        callbacks.append(LastCheckpoint(self._get(self.config, "checkpoint")["dirpath"], every))
        callbacks.append(TogetherOnSigterm())
        self.trainer_defaults["callbacks"] = callbacks
        plugins = asked["plugins"] or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        for kind, ours in ((CheckpointIO, [AtomicCheckpointIO()]), (ClusterEnvironment, cluster_plugins())):
            if not any(isinstance(plugin, kind) for plugin in plugins):
                plugins = [*plugins, *ours]
        kwargs["plugins"] = plugins
        if asked["profiler"] is None:
            kwargs["profiler"] = NoProfiler()
        return super().instantiate_trainer(**kwargs)

    def _made(self, part: str) -> str:
        """A class and its options, as one would write it, or the name of a function."""
        chosen = self._get(self.config, "model")[part]
        if callable(chosen):
            return str(getattr(chosen, "__name__", chosen))
        given = (chosen.get("init_args") or {}).items()
        options = ", ".join(f"{name}={value}" for name, value in given if value is not None)
        return f"{chosen['class_path'].rpartition('.')[-1]}({options})"

    def after_instantiate_classes(self) -> None:
        """Refuse what could not be trained or evaluated before anything is written."""
        skip_empty_hooks(self.trainer, self.model)
        if self.subcommand == "fit":
            keep_freed_memory()
            self._refuse_unknown_monitor()
            asked = self._get(self.config_init, "trainer")["val_check_interval"]
            refuse_bad_schedule(self.trainer, self.model, self.datamodule, asked)
        if self._checkpoint is not None:
            self._refuse_unfit_checkpoint(self._checkpoint)
        written = self.trainer.is_global_zero and not self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.subcommand == "fit" and written:
            # Last, because asking for the folder makes it.
            try:
                folder = Path(self.trainer.log_dir or ".")
            except OSError as error:
                refuse_unwritable(Path(error.filename or "."))
                raise
            saved = self._get(self.config, "checkpoint")["dirpath"]
            if not (self._goes_on and self._checkpoint):
                self._refuse_used_folder(folder, Path(saved or folder / "checkpoints"))
            refuse_unwritable(folder)
            refuse_unwritable(Path(saved or folder))

    def _find_checkpoint(self, logger: Any, *, chosen: bool) -> None:
        """Put a path in the place of "last" or "best", of the newest run of the recipe or that of a chosen logger."""
        word, saved = str(self._checkpoint), self._get(self.config, "checkpoint")["dirpath"]
        runs = Path("logs") / self.datamodule.env.replace("/", "-")
        loggers = [each for each in (logger if isinstance(logger, list) else [logger]) if isinstance(each, Logger)]
        ours = next((each for each in loggers if isinstance(each, EnvStepLogger)), None)
        run = newest_run(runs, saved)
        if chosen:
            own = chosen_run(loggers, self._get(self.config_init, "trainer")["default_root_dir"], saved)
            # What is evaluated need not have been logged as its evaluation is.
            run = own if self.subcommand == "fit" or (own and (own / "checkpoints").is_dir()) else run
        path = checkpoint_of(run or Path(), word, saved) if run or saved else None
        if path is None and self.subcommand != "fit":
            refuse(f"There is no {word} checkpoint in {saved or run or runs}. Train first: qmix fit, or give its path.")
        if self.subcommand == "fit" and word == "last":
            self._goes_on = True
            self.save_config_kwargs["overwrite"] = True
            env_steps = -1
            if path is None:
                # Whoever starts a run by the same words again and again need not know whether it was there before.
                say("resume:", f"there is no last checkpoint in {saved or run or runs} yet, training starts anew")
            else:
                with suppress(Exception):  # A file of another kind is refused, in words, later.
                    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                    env_steps = state[ReplayDataModule.__qualname__]["env_steps"]
                if ours is not None and ours._version is None and run is not None and run.parent == Path(ours.root_dir):
                    ours._version = run.name
            if ours is not None:
                ours.go_on_from(env_steps)
        elif path is None:
            refuse(f"There is no {word} checkpoint in {saved or run or runs}. Train first, or give its path.")
        self._checkpoint = None if path is None else str(path)
        self.config_init[self.subcommand]["ckpt_path"] = self._checkpoint
        # What a run saves of its configuration must make it again from the start.
        self.config[self.subcommand]["ckpt_path"] = None

    def _refuse_used_folder(self, folder: Path, saved: Path) -> None:
        config = folder / "config.yaml"
        given = [Path(str(path)).resolve() for path in self._get(self.config, "config") or []]
        if not self.trainer.loggers and config.resolve() in given:
            refuse(f"{relative(config)} is where a run without a logger saves its options. Give yours another name.")
        # A run that was killed before its first checkpoint is begun again where it was.
        if not self._goes_on and config.exists():
            refuse(f"{folder} holds another run (config.yaml). Choose an empty folder, or move it away.")
        if found := sorted(path.name for path in saved.glob("*.ckpt")):
            refuse(f"{saved} holds another run ({found[-1]}). Choose an empty folder, or move it away.")

    def _refuse_unknown_monitor(self) -> None:
        known = ["return", "episode_length"]
        known += [name for name, key in OUTCOMES.items() if key in self.datamodule.rollout.info_keys]
        for option in ("monitor", "tie"):
            figure = self._get(self.config, "checkpoint")[option]
            if figure is not None and figure.startswith("val/") and figure.removeprefix("val/") not in known:
                refuse(
                    f"checkpoint.{option} is {figure!r}, which {self.datamodule.env} does not tell. Choose one of"
                    f" {', '.join(f'val/{name}' for name in known)}."
                )

    def _refuse_unfit_checkpoint(self, path: str) -> None:
        if not Path(path).is_file():
            near = sorted(str(p) for p in Path("logs").glob("**/*.ckpt"))[-3:]
            refuse(f"There is no checkpoint {path}. Found below logs: {', '.join(near) or 'none'}.")
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            checkpoint.get("state_dict")
        except Exception:  # Half a file, or one of another kind, fails wherever its reader happens to stumble.
            refuse(f"{path} is no checkpoint that can be read. Was it cut off while it was written?")
        try:
            self.model.on_load_checkpoint(checkpoint)
            if self.subcommand == "fit":
                refuse_other_optimizer(checkpoint, self.model.hparams)
        except ValueError as error:
            refuse(str(error))
        if self.subcommand == "fit" and "optimizer_states" not in checkpoint:
            refuse(
                f"{path} holds networks alone (checkpoint.save_weights_only), from which training cannot go on. It can"
                " be evaluated; go on from another checkpoint, such as a last-step=… beside it."
            )
        done, last = checkpoint["global_step"], self.trainer.max_steps
        # A run that was killed after its last update has its test still to come.
        if self.subcommand == "fit" and 0 < last <= done and not self._goes_on:
            refuse(f"{path} has {done} updates already, trainer.max_steps is {last}. Give more: --trainer.max_steps.")

    def after_fit(self) -> None:
        """Save the end, test the best checkpoint, or the end if none was evaluated, and say where everything is."""
        saved: ModelCheckpoint = self._get(self.config_init, "checkpoint")
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.trainer.received_sigterm:
            raise SystemExit(143)
        last = Path(saved.dirpath or "") / "last.ckpt"
        with room_asked_for(self.trainer):
            self.trainer.save_checkpoint(last)
        # A run that goes on from another's checkpoint inherits its best, which may stay the best.
        path = saved.best_model_path or last
        self.model.evaluation = {}  # Those of the last validation are no test, if none is made.
        self.trainer.test(self.model, self.datamodule, ckpt_path=path, verbose=False)
        self._report(self.datamodule.test_episodes)
        folder = self.trainer.log_dir or "logs"  # Asks all processes, so all of them must ask.
        if self.trainer.is_global_zero:
            say("checkpoint:", f" {relative(path)}")
            if any(isinstance(logger, TensorBoardLogger) for logger in self.trainer.loggers):
                tensorboard = Path(sys.executable).parent / "tensorboard"
                say("curves:", f"     {shlex.quote(relative(tensorboard))} --logdir {shlex.quote(relative(folder))}")

    def after_validate(self) -> None:
        """Say what was found."""
        self._report(self.datamodule.val_episodes)

    def after_test(self) -> None:
        """Say what was found."""
        self._report(self.datamodule.test_episodes)

    def _report(self, episodes: int) -> None:
        if not (self.trainer.is_global_zero and self.model.evaluation):
            return
        parts = []
        for name, (mean, low, high) in self.model.evaluation.items():
            form = ".1%" if name == "win_rate" else ".2f"
            parts.append(f"{name.replace('_', ' ')} {mean:{form}} (95% interval {low:{form}} to {high:{form}})")
        untrained = self.subcommand != "fit" and self._checkpoint is None
        who = " by an untrained team, for want of --ckpt_path" if untrained else ""
        say(f"{episodes} greedy battles on {self.datamodule.env}{who}:", ", ".join(parts))

    def fit(self, **kwargs: Any) -> None:
        """Train; what cannot be read of a checkpoint, or kept or written for want of room, is said in a line."""
        try:
            with room_asked_for(self.trainer):
                self.trainer.fit(**kwargs)
        except SystemExit as end:
            # Lightning's own status would be 0, as if all were done, or 1, as if something were wrong.
            terminated = isinstance(end, SIGTERMException)
            if not terminated and not isinstance(end.__context__, KeyboardInterrupt):
                raise
            if self.trainer.is_global_zero:
                say("interrupted:", "the same words go on with --ckpt_path last")
            raise SystemExit(143 if terminated else 130) from None
        except MisconfigurationException as error:
            refuse(" ".join(str(error).split()))
        except ValueError as error:
            if self.trainer.optimizers:  # Training had begun: a defect, not a bad input.
                raise
            refuse(str(error))

    def validate(self, **kwargs: Any) -> None:
        """Validate without Lightning's table; the report says more."""
        self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Test without Lightning's table; the report says more."""
        self.trainer.test(**kwargs, verbose=False)


def quieten() -> None:
    """Silence what Lightning says of seeds, devices and stops, at length; our own words say what matters."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Whoever asks for a profiler wants to read what it found.
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    # Lightning 2.6 itself calls what torch 2.13 has deprecated.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    # Whoever watches speaks to the same command line by other words.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")
    # Every run has a folder of its own, also one that goes on from another's checkpoint.
    warnings.filterwarnings("ignore", message="The dirpath has changed from .*")
    # Nothing but `--ckpt_path last` goes on in a folder that is there, and that is what it was asked for.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def train(args: list[str] | None = None) -> None:
    """Train or evaluate: ``qmix fit|validate|test``."""
    quieten()
    QMixCLI(args)
    # Lightning does so for GPUs only; a process that ends while gloo's threads run may be aborted.
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
