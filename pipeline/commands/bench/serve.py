"""`pipeline bench serve`: parse options, print what was measured."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import access_options
from pipeline.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from pipeline.bench.serving.chosen import Chosen
    from pipeline.client import Access


@click.command("serve")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--repository", type=click.Path(path_type=Path), help="Serve a model of this repository, and ask it.")
@click.option("--url", help="Ask a running server: HOST:PORT (gRPC) or http://HOST:PORT.")
@click.option("--model", default="", show_default="the only one", help="Name of the served model.")
@click.option("--data", help="File, URI or prepared data set that texts are drawn from; a run has its own.")
@click.option("--column", default="text", help="Column of the texts in a table.")
@click.option("--texts", "count", type=click.IntRange(1), default=1000, help="How many texts are drawn.")
@click.option("--scenario", "scenarios", type=click.Choice(["single-stream", "multi-stream", "server", "offline"]),
              multiple=True, show_default="all four", help="What to measure.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, help="Of each scenario or trial.")
@click.option("--samples", type=click.IntRange(1), default=8, help="Texts in each request of multi-stream.")
@click.option("--p99-ms", type=click.FloatRange(0, min_open=True), default=50.0, help="Bound of server.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), show_default="the highest sustained",
              help="Texts a second of server.")  # fmt: skip
@click.option("--processes", type=click.IntRange(1), default=1, help="Clients that share server's rate.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Of ONNX Runtime in process; 0 for all cores.")
@click.option("--instances", type=click.IntRange(1), default=1, help="Batches that it runs at once in process.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the texts and the schedule.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with plots.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@access_options
def serve(
    target: Path | None,
    repository: Path | None,
    url: str | None,
    model: str,
    data: str | None,
    column: str,
    count: int,
    scenarios: tuple[str, ...],
    threads: int,
    instances: int,
    page: Path | None,
    as_json: bool,
    access: "Access",
    seed: int,
    **settings: Any,
) -> None:
    """Measure latency and throughput under MLPerf's scenarios, with MLCommons LoadGen as the client.

    TARGET is a model file or a run, asked in process with ONNX Runtime. With --repository a model is served by the
    wheel's Triton first; with --url a running server is asked.

    \b
    single-stream  one text after the other                                       judged by p90
    multi-stream   eight texts in each request                                    judged by p99
    server         texts that come by chance; the highest rate that is sustained  p99 within --p99-ms
    offline        all texts at once                                              texts a second

    Latencies of server count from when a text was due. The answers that are timed are compared with those of the same
    model to each text alone; a wrong or missing one makes a measurement invalid, and the exit code 3.

    \b
    pipeline bench serve runs/sentiment-001
    pipeline bench serve --repository model_repository --model sentiment --data reviews.csv --column review
    pipeline bench serve --url 127.0.0.1:8001 --model sentiment --data data/sentiment --page bench.html
    """
    from pipeline.bench.serving.page import page as page_of
    from pipeline.bench.serving.stage import NAMES, bench_serving
    from pipeline.bench.serving.texts import read_texts
    from pipeline.files import write_text

    if page and not page.parent.is_dir():  # before what takes minutes
        raise UsageError(f"--page {page}: no such folder.")
    choice = _choice(target, repository, url, model, access, threads=threads, instances=instances)
    texts = read_texts(data or _data_of(target), column, count, seed)
    with choice as chosen:
        record = bench_serving(
            chosen,
            texts,
            scenarios or NAMES,
            seed=seed,
            progress=lambda text: click.echo(text, err=True),
            **settings,
        )
    if page:
        write_text(page, page_of(record))
    click.echo(json.dumps(record, indent=2) if as_json else serving_table(record))
    if faults := [fault for found in record["measurements"] for fault in found["faults"]]:
        raise CheckFailed("; ".join(faults) + ".")


def _choice(
    target: Path | None,
    repository: Path | None,
    url: str | None,
    model: str,
    access: "Access",
    **sizes: int,
) -> "AbstractContextManager[Chosen]":
    from pipeline.bench.serving.chosen import endpoint, model_file, served

    given = [name for name, value in (("TARGET", target), ("--repository", repository), ("--url", url)) if value]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise UsageError(f"give one of TARGET (a model file or a run), --repository or --url; got {got}.")
    if target:
        return model_file(target, **sizes)
    return served(repository, model) if repository else endpoint(url or "", model, access)


def _data_of(run: Path | None) -> str:
    from pipeline.dataset import dataset_of
    from pipeline.run_directory import RunDirectory

    if run is None or not run.is_dir():
        raise UsageError("nothing to ask with: give --data, a file of texts or a prepared data set.")
    return str(dataset_of(RunDirectory.open(run)).path)


def serving_table(record: dict[str, Any]) -> str:
    """Return each scenario's figures, then what the server and the client did."""
    names = ("p50", "p90", "p99", "max")
    lines = [
        f"{'scenario':<13}{'texts/s':>10}" + "".join(f"{name + ' ms':>10}" for name in names) + "  client  verdict"
    ]
    lines += map(_line, record["measurements"])
    lines += [_work(found) for found in record["measurements"] if found["server"]]
    ceiling = min(found["client"]["ceiling_per_second"] for found in record["measurements"])
    return "\n".join(
        [
            *lines,
            f"client: its part of a core{'' if record['is_remote'] else ', the model included'}; alone it asks "
            f"{ceiling:,.0f} texts/s where sending costs nothing",
            f"{record['target']}; {record['texts']:,} texts of {record['mean_bytes']:.0f} bytes on average; "
            f"{record['processor']}, {record['cores']} cores",
        ]
    )


def _line(found: dict[str, Any]) -> str:
    client = found["client"]
    busy = client["cpu_seconds"] / found["seconds"] / client["processes"]
    latencies = "".join(f"{found['latency_ms'][name]:>10,.2f}" for name in ("p50", "p90", "p99", "max"))
    verdict = "valid" if found["is_valid"] else "not valid"
    return f"{found['scenario']['name']:<13}{found['samples_per_second']:>10,.1f}{latencies}{busy:>8.0%}  {verdict}"


def _work(found: dict[str, Any]) -> str:
    server = found["server"]
    return (
        f"{found['scenario']['name']}: {server['mean_batch']:.1f} rows in a batch; of a request "
        f"{server['queue_ms']:.2f} ms in the queue, {server['compute_ms']:.2f} ms computed"
    )
