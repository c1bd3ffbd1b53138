"""`pipeline export`: parse options, print the model's path and its variants."""

from pathlib import Path
from typing import Any

import click


@click.command("export", short_help="Write a run's model as one self-contained ONNX file, and lighter variants of it.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--variants",
    type=click.Choice(["auto", "int8", "fp16", "bf16"]),
    multiple=True,
    help="Write these as well, if they pass their gate; auto tries all.",
)
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved; for --variants.")
def command(run: Path, variants: tuple[str, ...], data: Path | None) -> None:
    """Write RUN/model.onnx, from raw text or frames to label, and its signature.json; print the model's path.

    A variant has its recurrent layers at a lower precision. It is kept if, on the whole validation split, it loses at
    most 0.1 points of accuracy, flips at most 0.5 % of the labels, and no answer depends on its company. Exit 3 if one
    that was asked for by its name is not.

    \b
    pipeline export runs/sentiment-001
    pipeline export runs/sentiment-001 --variants auto
    """
    from pipeline.export import export, export_variants, require_kept
    from pipeline.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    export(directory)
    click.echo(directory / "model.onnx")
    if variants:
        made = export_variants(directory, variants, data)
        click.echo(table(made))
        require_kept(made, variants)


def table(made: dict[str, Any]) -> str:
    """Lay variants out for a terminal."""
    sizes = sorted({1, made["batch_size"]})
    lines = [
        f"{'variant':<9}{'outcome':<9}{'bytes':>12}{'accuracy':>10}{'flips':>7}{'ECE':>8}{'company':>9}"
        + "".join(f"{f'batch {size}':>14}" for size in sizes)
    ]
    for record in ({"name": "fp32", "outcome": "–", "figures": made["fp32"], **made["fp32"]}, *made["variants"]):
        lines.append(f"{record['name']:<9}{record['outcome']:<9}{_figures(record, sizes)}".rstrip())
        lines += [f"  {reason}" for reason in record.get("reasons", ())]
        if record.get("repaired_by"):
            lines.append(f"  passes with one of these in fp32: {', '.join(record['repaired_by'])}")
    return "\n".join([*lines, f"chosen: {made['chosen']}"])


def _figures(record: dict[str, Any], sizes: list[int]) -> str:
    if "figures" not in record:
        return ""
    measured = record["figures"]
    speeds = [record["speeds"][str(size)]["ratio"] for size in sizes] if "speeds" in record else []
    return (
        f"{record['bytes']:>12,}{measured['accuracy']:>10.2%}{measured['flips']:>7,}"
        f"{measured['calibration_error']:>8.4f}{measured['company_difference']:>9.0e}"
        + "".join(f"{f'{ratio:.2f} × fp32':>14}" for ratio in speeds)
    )
