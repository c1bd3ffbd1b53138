"""`pipeline suspects`: parse options, print rows."""

import dataclasses
import json
from pathlib import Path

import click


@click.command("suspects", short_help="Rank the training rows whose label is most likely wrong.")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--folds", type=click.IntRange(2), default=5, help="Models trained, each without its share of the rows.")
@click.option("--most", type=click.IntRange(1), default=100, help="Rows printed, at most.")
def command(recipe: str | None, data: Path | None, settings: tuple[str, ...], folds: int, most: int) -> None:
    """Print, as JSON lines, the training rows that models which never learned them doubt most.

    Look at them, mend the labels that are wrong in your file, and prepare the data set again.

    \b
    pipeline suspects sentiment > suspects.jsonl
    """
    from pipeline.data.resolve import resolve
    from pipeline.recipe import load
    from pipeline.train.suspects import find_suspects

    def fold_done(fold: int, accuracy: float) -> None:
        click.echo(f"fold {fold} of {folds}: accuracy {accuracy:.4f} on rows it did not learn", err=True)

    keys = load(recipe, settings)
    found = find_suspects(resolve(data, keys.data.source), keys, folds=folds, most=most, fold_done=fold_done)
    for suspect in found:
        click.echo(json.dumps(dataclasses.asdict(suspect), ensure_ascii=False))
