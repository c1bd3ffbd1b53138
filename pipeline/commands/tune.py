"""`pipeline tune`: parse options, print what was found and what it was held against."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.tune import Trial, Tuned


@click.command("tune", short_help="Search how a verified run is served best within a latency bound.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Texts as callers send them: a file or a prepared data set; the run's own by default.",
)
@click.option("--column", default="text", help="Of the texts, in a table.")
@click.option(
    "--p99-ms", type=click.FloatRange(min=0, min_open=True), default=50.0, help="99 of 100 answers come in it."
)
@click.option(
    "--max-memory-mb", type=click.FloatRange(min=0, min_open=True), help="What Triton may hold after the load."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Texts a second: look for the lowest p99 at this rate, not for the highest rate.",
)
@click.option("--trials", type=click.IntRange(3), default=32, help="Of the search, at most.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    help="Of each rate that is tried; twice as long in a long trial.",
)
@click.option("--random", "drawn", type=click.IntRange(0), default=0, help="Try so many random configurations as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: Path,
    data: Path | None,
    column: str,
    p99_ms: float,
    max_memory_mb: float | None,
    rate: float | None,
    trials: int,
    seconds: float,
    drawn: int,
    as_json: bool,
) -> None:
    """Search variant, instances, threads, batching and memory arena for the highest rate within --p99-ms.

    Each trial serves the run with the Triton of `pipeline serve` and asks with texts that come by chance. A candidate
    whose answers are not the verified ones, or that holds more than --max-memory-mb, is never chosen. RUN gets
    tuned.pbtxt, a patch that `pipeline publish` takes, tune.json and tune.html. Stop it at any time: the same command
    goes on. Exit 3 when nothing keeps the bounds.

    The finalists are served side by side with the recipe's configuration and asked in turn, so that the ratio between
    them does not hang on what else the machine does: that ratio is the prediction. At the end, what was found is
    measured so again, beside the recipe's and the best of --random, and held against it.

    Triton's response cache is left out: its key ignores which outputs are asked for, so that one caller could cut
    another's answer; and texts drawn from a file do not come again as callers' do.

    \b
    pipeline tune runs/sentiment-001 --p99-ms 50 --max-memory-mb 1024
    pipeline publish runs/sentiment-001 --config-patch runs/sentiment-001/tuned.pbtxt
    """
    from pipeline.bench.serving import read_texts
    from pipeline.run_directory import RunDirectory
    from pipeline.tune import Bounds, tune

    directory = RunDirectory.open(run)
    texts = read_texts(data or Path(directory.info["dataset"]), column)
    bounds = Bounds(p99_ms, max_memory_mb, rate)
    tuned = tune(directory, texts, bounds, trials=trials, seconds=seconds, drawn=drawn, told=_show)
    click.echo(json.dumps(tuned.as_json(), indent=2) if as_json else table(tuned))
    click.echo(f"pipeline publish {run} --config-patch {run / 'tuned.pbtxt'}", err=True)


def table(tuned: "Tuned") -> str:
    """Return what was found and what it was held against."""
    named = {"found": tuned.found, "recipe": tuned.start, f"best of {tuned.drawn} random": tuned.random}
    lines = [f"{'which':<18}  {'texts/s':>9}  {'p99, ms':>8}  {'MB':>6}  configuration"]
    for name, one in named.items():
        if one:
            result = one.result
            lines.append(
                f"{name:<18}  {result.rate:>9,.1f}  {result.p99_ms or 0:>8.1f}  {result.memory_mb or 0:>6,.0f}  "
                f"{result.reason or one.candidate}"
            )
    others = {"the recipe's": tuned.start, f"the best of {tuned.drawn} random ones": tuned.random}
    times = {name: tuned.times(one) for name, one in others.items() if one}
    ratios = [f"{ratio:.2f} times {name}" for name, ratio in times.items() if ratio is not None]
    better = " and ".join(ratios) or "alone in keeping the bounds"
    return "\n".join(
        [
            f"{tuned.goal}:",
            *lines,
            f"found is {better}, after {tuned.searched} trials of {tuned.grid} configurations",
            _prediction(tuned),
        ]
    )


def _prediction(tuned: "Tuned") -> str:
    if tuned.difference is None:
        return "no prediction: the recipe's own configuration does not keep the bounds"
    verdict = "it holds" if tuned.holds else "it does not hold; measure longer, or on a quieter machine"
    return (
        f"predicted {tuned.predicted:.2f} times the recipe's, the second run is {tuned.difference:+.1%} off: {verdict}"
    )


def _show(trial: "Trial") -> None:
    for candidate, result in trial:
        said = result.reason or f"{result.rate:,.1f}/s, p99 {result.p99_ms:.1f} ms, {result.memory_mb:,.0f} MB"
        click.echo(f"{trial.kind}: {candidate}: {said}", err=True)
