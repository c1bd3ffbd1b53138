"""`pipeline train`: parse options, show progress."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError

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

    RECIPE is a TOML file, the name of a recipe in the package, or left out for the defaults. Ctrl-C keeps the best
    weights so far: the run it leaves is usable, and the exit code is 1.

    \b
    pipeline train sentiment
    pipeline train --data data/reviews --set train.epochs=3
    """
    from pipeline.recipe import load

    keys = load(recipe, settings)
    run = train_with_progress(keys, find_data(keys, data), runs, device=device, is_deterministic=deterministic)
    click.echo(run.path)
    if run.info["interrupted"]:
        click.echo(f"pipeline: interrupted; the best weights so far are in {run.path}.", err=True)
        raise SystemExit(1)


def find_data(keys: "Recipe", data: Path | None) -> Path:
    """Return the data set's folder: the option's, or the recipe's; a named set is fetched if it is not there.

    Raises:
        UsageError: neither says.
    """
    from pipeline.data.catalog import SETS
    from pipeline.data.fetch import fetch

    if data or not keys.data.source:
        if data is None:
            raise UsageError("no data: give --data DIR, or data.source in the recipe.")
        return data
    folder = Path("data") / keys.data.source
    if keys.data.source in SETS and not folder.exists():
        click.echo(f"fetching {keys.data.source} into {folder}", err=True)
        return fetch(keys.data.source, folder)
    return folder if keys.data.source in SETS else Path(keys.data.source)


def train_with_progress(keys: "Recipe", data: Path, runs: Path, **choices: Any) -> "RunDirectory":
    """Train with a progress bar on a terminal, or a line for each epoch elsewhere; return the run."""
    from pipeline.train import Epoch, Step, train

    is_terminal = sys.stderr.isatty()

    def show(event: Step | Epoch) -> None:
        if isinstance(event, Epoch):
            click.echo(
                f"epoch {event.epoch}: train loss {event.train_loss:.4f}, validation loss {event.validation_loss:.4f}, "
                f"accuracy {event.validation_accuracy:.4f}, {event.tokens_per_second:,.0f} tokens/s"
                f"{' *' if event.is_best else ''}",
                err=True,
            )
        elif is_terminal:
            end = "\n" if event.step == event.steps else ""
            done = "=" * (30 * event.step // event.steps)
            click.echo(f"\r  [{done:<30}] {event.step}/{event.steps} loss {event.loss:.4f}{end}", err=True, nl=False)

    return train(data, keys, runs, progress=show, **choices)
