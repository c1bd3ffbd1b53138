"""`pipeline bench train`: parse options, print ratios."""

import json
import statistics
from pathlib import Path
from typing import Any

import click


@click.command("train")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="For each way in each repeat."
)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Of all ways, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(
    recipe: str | None, data: Path | None, settings: tuple[str, ...], seconds: float, repeats: int, as_json: bool
) -> None:
    """Compare training with the loops that tutorials teach, on the same model and data.

    packed: pack_padded_sequence and one nn.LSTM. padded: the same without packing, each batch padded to its longest row
    (a bidirectional one answers wrongly). fixed: every batch padded to the longest row of all. All three in random
    order, fp32, AdamW. kernels: the bare LSTM on our batches, which no loop around it can beat. Tokens of padding are
    not counted.

    \b
    pipeline bench train sentiment
    """
    from pipeline.bench.training import bench_training
    from pipeline.data.resolve import resolve
    from pipeline.recipe import load

    keys = load(recipe, settings)
    record = bench_training(
        resolve(data, keys.data.source),
        keys,
        seconds=seconds,
        repeats=repeats,
        progress=lambda text: click.echo(text, err=True),
    )
    click.echo(json.dumps(record, indent=2) if as_json else table(record))


def table(record: dict[str, Any]) -> str:
    """Return speeds, ratios and the floor as a table."""
    lines = [f"{'way':<8}  {'tokens/s':>10}  {'spread':>21}  ours is"]
    for way, speeds in record["tokens_per_second"].items():
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f}"
        ratio = f"{record['ratios'][way]:.1f} times as fast" if way in record["ratios"] else ""
        lines.append(f"{way:<8}  {statistics.median(speeds):>10,.0f}  {spread:>21}  {ratio}".rstrip())
    return "\n".join(
        [
            *lines,
            f"the bare LSTM kernels take {record['kernel_share']:.0%} of our time",
            f"{record['precision']}, {record['threads']} threads, {record['processor']}; {record['rows']:,} rows of "
            f"{record['mean_tokens']:.0f} tokens on average, {record['longest']} at most",
        ]
    )
