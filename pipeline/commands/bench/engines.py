"""`pipeline bench engines`: parse options, print ratios and labels."""

import json
import statistics
from pathlib import Path
from typing import Any

import click


@click.command("engines")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option(
    "--batch", "sizes", type=click.IntRange(1), multiple=True, default=(1, 32), show_default=True, help="Batch sizes."
)
@click.option("--rows", type=click.IntRange(1), default=128, show_default=True, help="Held-out texts to time.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Of all batches.")
@click.option(
    "--threads", type=click.IntRange(0), default=1, show_default=True, help="Of each engine; 0: as many as it takes."
)
@click.option("--openvino", is_flag=True, help="Ask OpenVINO too, at its default precision (pip install openvino).")
@click.option("--cpu-time", is_flag=True, help="Count the seconds in which this process ran: for a busy machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def engines(
    run: Path,
    data: Path | None,
    sizes: tuple[int, ...],
    rows: int,
    repeats: int,
    threads: int,
    openvino: bool,
    cpu_time: bool,
    as_json: bool,
) -> None:
    """Compare a text model and its variants in process with PyTorch and OpenVINO, with the same weights.

    pytorch: eager, float32, pack_padded_sequence and one nn.LSTM. fp32 and the variants: ONNX Runtime. From text:
    everything from raw texts to labels; pytorch and openvino get their tokens from the run's tokenizer graph. From
    tokens: all get the same arrays. Drawn: batches in random order. Similar: of similar length.

    \b
    pipeline bench engines runs/sentiment-001 --batch 1 --batch 32 --openvino
    """
    from pipeline.bench.engines import bench_engines
    from pipeline.run_directory import RunDirectory

    record = bench_engines(
        RunDirectory.open(run),
        data,
        sizes=sizes,
        rows=rows,
        repeats=repeats,
        threads=threads,
        openvino=openvino,
        cpu_time=cpu_time,
        progress=lambda text: click.echo(text, err=True),
    )
    click.echo(json.dumps(record, indent=2) if as_json else engines_table(record))


def engines_table(record: dict[str, Any]) -> str:
    """Return speeds, ratios and agreement as a table."""
    others = list(record["cases"][0]["ratios"])
    ratios = "".join(f"  {f'× {other}':<20}" for other in others)
    lines = [f"{'from':<6}  {'batch':>5}  {'order':<7}  {'engine':<8}  {'rows/s':>8}{ratios}".rstrip()]
    for case in record["cases"]:
        for name, rates in case["rows_per_second"].items():
            ratios = "".join(f"  {_spread(case['ratios'][other][name]):<20}" for other in others)
            lines.append(
                f"{case['from']:<6}  {case['batch_size']:>5}  {case['order']:<7}  {name:<8}  "
                f"{statistics.median(rates):>8,.1f}{ratios}".rstrip()
            )
    lines += [
        f"{name}: {one['accuracy']:.2%} of {one['rows']:,} test rows right, {one['differ']:,} labels not those of fp32"
        for name, one in record["agreement"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    clock = "CPU time" if record["clock"] == "process_time" else "wall clock"
    return "\n".join(
        [
            *lines,
            f"{record['rows']:,} rows timed, {record['mean_tokens']:.0f} tokens on average; {clock}, threads of each: "
            f"{record['threads']}; {record['processor']}, {record['cores']} cores; {versions}",
        ]
    )


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
