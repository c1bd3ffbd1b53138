"""`pipeline train`: parse options, show progress."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.run_directory import RunDirectory


@click.command("train", short_help="Train a classifier: a recipe and data in, a run directory out.")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder that holds the runs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--deterministic", is_flag=True, help="The same bits each time on the same machine; slower on a GPU.")
def command(
    recipe: str | None, data: Path | None, runs: Path, settings: tuple[str, ...], device: str, deterministic: bool
) -> None:
    """Train a classifier on a prepared data set and print the new run directory.

    RECIPE is a TOML file, the name of a recipe in the package, or left out for the defaults. Ctrl-C and SIGTERM keep
    the best weights so far: the run they leave is usable, and the exit code is 1.

    \b
    pipeline train sentiment
    pipeline train --data data/reviews --set train.epochs=3
    """
    from pipeline.recipe import load

    keys = load(recipe, settings)
    run = train_with_progress(keys, data, runs, device=device, is_deterministic=deterministic)
    click.echo(run.path)
    if run.info["interrupted"]:
        click.echo(f"pipeline: interrupted; the best weights so far are in {run.path}.", err=True)
        raise SystemExit(1)


def train_with_progress(keys: "Recipe", data: Path | None, runs: Path, **choices: Any) -> "RunDirectory":
    """Train with a progress bar on a terminal and a line for each epoch; return the run."""
    from pipeline.data.resolve import resolve
    from pipeline.train import Epoch, Step, train

    bar = None

    def show(event: Step | Epoch) -> None:
        nonlocal bar
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

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what `timeout` and Kubernetes send ends as Ctrl-C does
    return train(resolve(data, keys.data.source), keys, runs, progress=show, **choices)
