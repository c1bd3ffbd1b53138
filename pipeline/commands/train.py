"""`pipeline train`: parse options, show progress."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.run_directory import RunDirectory
    from pipeline.train import Choices, Epoch, Pretrained, Step


@click.command("train", short_help="Train a classifier: a recipe and data in, a run directory out.")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder that holds the runs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--deterministic", is_flag=True, help="The same bits each time on the same machine; slower on a GPU.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a run that was cut off.")
@click.option("--checkpoint-seconds", type=click.FloatRange(min=0), default=60.0, help="Longest time to lose.")
@click.option(
    "--track",
    "trackers",
    type=click.Choice(["tensorboard", "mlflow"]),
    multiple=True,
    help="Write figures for `tensorboard --logdir runs`, or to $MLFLOW_TRACKING_URI, as they come.",
)
def command(
    recipe: str | None,
    data: Path | None,
    runs: Path,
    settings: tuple[str, ...],
    device: str,
    deterministic: bool,
    resume: Path | None,
    checkpoint_seconds: float,
    trackers: tuple[str, ...],
) -> None:
    """Train a classifier on a prepared data set and print the new run directory.

    RECIPE is a TOML file, the name of a recipe in the package, or left out for the defaults. Ctrl-C and SIGTERM keep
    the best weights so far: the run they leave is usable, the exit code is 1, and --resume goes on with it, as it does
    after a crash. `torchrun --nproc-per-node N -m pipeline train ...` trains in N processes, each with its GPU if there
    are any.

    \b
    pipeline train sentiment
    pipeline train --data data/reviews --set train.epochs=3
    pipeline train --resume runs/reviews-001
    """
    from pipeline.train import Choices

    choices = Choices(
        device=device, is_deterministic=deterministic, checkpoint_seconds=checkpoint_seconds, trackers=trackers
    )
    if resume is not None:
        if recipe or settings:
            raise UsageError("--resume: goes on with the run's own recipe. Leave out RECIPE and --set.")
        run = resume_with_progress(resume, data, choices)
    else:
        from pipeline.recipe import load

        run = train_with_progress(load(recipe, settings), data, runs, choices)
    if os.environ.get("RANK", "0") != "0":
        return
    click.echo(run.path)
    if run.info["interrupted"]:
        click.echo(
            f"pipeline: interrupted; the best weights so far are in {run.path}. Go on with --resume {run.path}.",
            err=True,
        )
        raise SystemExit(1)


def train_with_progress(keys: "Recipe", data: Path | None, runs: Path, choices: "Choices") -> "RunDirectory":
    """Train with a progress bar on a terminal and a line for each epoch; return the run."""
    from pipeline.data.resolve import resolve
    from pipeline.train import train

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what `timeout` and Kubernetes send ends as Ctrl-C does
    return train(resolve(data, keys.data.source), keys, runs, dataclasses.replace(choices, progress=_progress()))


def resume_with_progress(path: Path, data: Path | None, choices: "Choices") -> "RunDirectory":
    """Go on with a run, as `train_with_progress` does with a new one."""
    from pipeline.run_directory import RunDirectory
    from pipeline.train import resume

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return resume(RunDirectory.open(path), dataclasses.replace(choices, progress=_progress()), data)


def _progress() -> "Callable[[Pretrained | Step | Epoch], None]":
    from pipeline.train import Epoch, Pretrained, Step

    bar = None

    def show(event: Pretrained | Step | Epoch) -> None:
        nonlocal bar
        if isinstance(event, Pretrained):
            click.echo(
                f"pre-training {event.epoch} of {event.epochs}: loss {event.loss:.4f} a word, "
                f"{event.tokens_per_second:,.0f} tokens/s",
                err=True,
            )
            return
        if isinstance(event, Step):
            if bar is None:
                is_hidden = not sys.stderr.isatty()
                label = f"epoch {event.epoch}"
                bar = click.progressbar(length=event.steps, label=label, file=sys.stderr, hidden=is_hidden)
            bar.update(1)
            return
        if bar is not None:
            bar.render_finish()
            bar = None
        click.echo(
            f"epoch {event.epoch}: train loss {event.train_loss:.4f}, validation loss {event.validation_loss:.4f}, "
            f"accuracy {event.validation_accuracy:.4f}, {event.tokens_per_second:,.0f} tokens/s"
            f"{'' if event.weights is None else ' *'}",
            err=True,
        )

    return show
