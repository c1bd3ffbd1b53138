"""`pipeline evaluate`: parse options, print the figures."""

import json
from pathlib import Path
from typing import Any

import click

CONFUSION_CLASSES = 12  # more columns than that do not fit a terminal; the report page shows them all


@click.command("evaluate", short_help="Measure a run on the rows it did not learn from.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json instead of a table.")
def command(run: Path, data: Path | None, as_json: bool) -> None:
    """Measure a run on its validation and test split, beside the majority-class baseline.

    \b
    pipeline evaluate runs/sentiment-001
    """
    from pipeline.evaluate import evaluate
    from pipeline.run_directory import RunDirectory

    evaluation = evaluate(RunDirectory.open(run), data)
    click.echo(json.dumps(evaluation, indent=2) if as_json else table(evaluation))


def table(evaluation: dict[str, Any]) -> str:
    """Lay an evaluation out for a terminal."""
    lines = [f"{'split':<12}{'rows':>8}{'loss':>9}{'accuracy':>10}{'macro-F1':>10}{'majority':>10}{'ECE':>8}"]
    for name in ("validation", "test"):
        split = evaluation[name]
        lines.append(
            f"{name:<12}{split['rows']:>8,}{split['loss']:>9.4f}{split['accuracy']:>10.2%}{split['macro_f1']:>10.2%}"
            f"{split['majority_baseline']:>10.2%}{split['calibration']['expected_calibration_error']:>8.3f}"
        )
    test = evaluation["test"]
    width = max(5, *(len(row["label"]) for row in test["classes"])) + 2
    is_shown = len(test["classes"]) <= CONFUSION_CLASSES
    heading = "   test: predicted as" if is_shown else ""
    lines += ["", f"{'class':<{width}}{'rows':>8}{'precision':>11}{'recall':>9}{'F1':>9}{heading}"]
    for row, counts in zip(test["classes"], test["confusion"], strict=True):
        lines.append(
            f"{row['label']:<{width}}{row['rows']:>8,}{row['precision']:>11.2%}{row['recall']:>9.2%}{row['f1']:>9.2%}"
            f"{'   ' + ' '.join(f'{count:>5}' for count in counts) if is_shown else ''}"
        )
    return "\n".join(lines)
