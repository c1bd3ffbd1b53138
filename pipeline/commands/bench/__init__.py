"""`pipeline bench`: one file for each of its subcommands."""

import click

from pipeline.commands.bench.cost import cost
from pipeline.commands.bench.engines import engines
from pipeline.commands.bench.gpu import gpu
from pipeline.commands.bench.score import score
from pipeline.commands.bench.serve import serve
from pipeline.commands.bench.train import train
from pipeline.commands.bench.verify import verify


@click.group("bench", short_help="Measure speed against what users would do instead.")
def command() -> None:
    """Measure speed: several ways of doing the same thing, interleaved in one run, and the ratios between them.

    \b
    pipeline bench train sentiment
    pipeline bench verify runs/sentiment-001
    pipeline bench serve runs/sentiment-001
    pipeline bench engines runs/sentiment-001
    pipeline bench score runs/sentiment-001 reviews.parquet
    pipeline bench cost runs/sentiment-001
    pipeline bench gpu runs/sentiment-001
    """


for subcommand in (train, verify, serve, engines, score, cost, gpu):
    command.add_command(subcommand)
