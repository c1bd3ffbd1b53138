"""`pipeline search`: parse options, print the best settings."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.train.search import Trial


@click.command("search", short_help="Search for better values of recipe keys (needs Optuna).")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--space", type=click.Path(path_type=Path), required=True, help="TOML file of the keys to vary.")
@click.option(
    "--study", type=click.Path(path_type=Path), required=True, help="SQLite file; gone on with if it is there."
)
@click.option("--trials", type=click.IntRange(1), default=20, help="How many more to try.")
def command(
    recipe: str | None, data: Path | None, settings: tuple[str, ...], space: Path, study: Path, trials: int
) -> None:
    """Try settings on the validation split, and print the best as --set options.

    SPACE has a table for each key: ["train.learning_rate"] with low, high and log = true, or ["model.pooling"] with
    choices = ["max", "mean"]. Stop it at any time: the same command goes on.

    \b
    pipeline search sentiment --space space.toml --study study.db
    """
    from pipeline.data.resolve import resolve
    from pipeline.recipe import load
    from pipeline.train.search import search

    source = load(recipe, settings).data.source
    best = search(resolve(data, source), recipe, settings, space, study, trials=trials, tried=_show)
    click.echo(" ".join(f"--set {setting}" for setting in best.settings))


def _show(trial: "Trial") -> None:
    accuracy = trial.reason if trial.accuracy is None else f"accuracy {trial.accuracy:.4f}"
    click.echo(f"trial {trial.number}: {accuracy}, {' '.join(trial.settings)}", err=True)
