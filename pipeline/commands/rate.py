"""`pipeline rate`: parse options, draw the losses."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.train.rate_finder import Tried

_WIDTH = 50
_LINES = 25


@click.command("rate", short_help="Find a learning rate: loss against rate, and a suggestion.")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--steps", type=click.IntRange(10), default=100, help="Optimiser steps between 1e-5 and 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(recipe: str | None, data: Path | None, settings: tuple[str, ...], steps: int, as_json: bool) -> None:
    """Train while the learning rate rises until the loss breaks out; plot the loss, and suggest a rate.

    \b
    pipeline rate sentiment
    """
    from pipeline.data.resolve import resolve
    from pipeline.recipe import load
    from pipeline.train.rate_finder import find_rate, suggested_rate

    keys = load(recipe, settings)
    tried = find_rate(resolve(data, keys.data.source), keys, steps=steps)
    suggested = suggested_rate(tried)
    if as_json:
        click.echo(json.dumps({"tried": [dataclasses.asdict(one) for one in tried], "suggested": suggested}))
        return
    click.echo("\n".join([*plot(tried), f"--set train.learning_rate={suggested:.1e}"]))


def plot(tried: "list[Tried]") -> list[str]:
    """Return a line for each of some rates, with a bar as long as its loss."""
    most = max(one.loss for one in tried)
    shown = tried[:: max(1, len(tried) // _LINES)]
    return [f"{one.rate:8.1e}  {one.loss:8.4f}  {'█' * round(_WIDTH * one.loss / most)}" for one in shown]
