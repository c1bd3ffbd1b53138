"""`pipeline diff`: parse options, lay out what differs between two versions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import repository_option

if TYPE_CHECKING:
    from pipeline.release import Difference

_VALUE_SHOWN = 40


@click.command("diff", short_help="Compare two versions: contract, configuration, bytes, figures, answers.")
@click.argument("name")
@click.argument("a", type=click.IntRange(min=1))
@click.argument("b", type=click.IntRange(min=1))
@repository_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(name: str, a: int, b: int, repository: Path, as_json: bool) -> None:
    """Compare version A of a model with version B; both answer the golden rows of both, in ONNX Runtime.

    \b
    pipeline diff sentiment 1 2
    """
    import dataclasses

    from pipeline.release import diff

    difference = diff(repository, name, a, b)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(difference), indent=2, ensure_ascii=False))
    else:
        click.echo(table(difference))


def table(difference: "Difference") -> str:
    """Lay a difference out for a terminal."""
    lines = []
    for title in ("contract", "config", "hashes"):
        differing = getattr(difference, title)
        lines.append(f"{title}: {'the same' if not differing else ''}".rstrip())
        lines += [f"  {key}: {_shown(one)} → {_shown(other)}" for key, (one, other) in differing.items()]
    lines += [f"{key}: {_shown(one)} → {_shown(other)}" for key, (one, other) in difference.figures.items()]
    lines.append(
        f"golden rows: {len(difference.labels)} of {difference.rows} labels differ, "
        f"max |Δ probability| {difference.max_probability_change:.1e}"
    )
    lines += [f"  {row!r}: {one} → {other}" for row, one, other in difference.labels]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text if len(text) <= _VALUE_SHOWN else f"{text[: _VALUE_SHOWN - 1]}…"
