"""`pipeline attack`: parse options, print the table."""

import json
from pathlib import Path
from typing import Any

import click


@click.command("attack", short_help="How accuracy holds under typos and under worst-case noise.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1), default=500, help="Rows of the test split to attack.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the draw of the rows.")
@click.option("--data", type=click.Path(path_type=Path), help="The data set, if it was moved since training.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: Path, rows: int, seed: int, data: Path | None, as_json: bool) -> None:
    """Attack RUN on its test split and write RUN/attack.json.

    Texts: the worst one typo, then the worst second one, found greedily (swap, drop, add, neighbouring key; inside
    words of four letters or more). All inputs: a move of the embedded steps along the gradient, whose length ε is in
    root-mean-square norms of a step.

    \b
    pipeline attack runs/sentiment-001
    """
    from pipeline.attack import attack
    from pipeline.run_directory import RunDirectory

    record = attack(RunDirectory.open(run), rows=rows, seed=seed, data=data)
    click.echo(json.dumps(record, indent=2, ensure_ascii=False) if as_json else table(record))


def table(record: dict[str, Any]) -> str:
    """Return the accuracies as a table."""
    lines = [f"{'attack':<12}  accuracy", f"{'none':<12}  {record['clean_accuracy']:>8.2%}"]
    for row in record["typos"]:
        name = f"{row['typos']} typo{'s' * (row['typos'] > 1)}"
        lines.append(f"{name:<12}  {row['accuracy']:>8.2%}")
    lines += [f"{'ε = ' + format(row['epsilon'], 'g'):<12}  {row['accuracy']:>8.2%}" for row in record["epsilon"]]
    return "\n".join([*lines, f"{record['rows']} rows of the test split, seed {record['seed']}"])
