"""`pipeline predict`: classify texts, lines, tables or sequences with a served model."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pipeline.commands.options import access_options
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.client import Access, RequestLog
    from pipeline.predict.inputs import Item, Skipped


@click.command()
@click.argument("model")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--input", "source", metavar="FILE", help="Read rows from a file or URI; - for lines of standard input.")
@click.option("--column", default="text", help="Column of the texts in a CSV, TSV, JSONL or Parquet file.")
@click.option("--on-bad-row", type=click.Choice(["skip", "fail"]), default="fail", help="Rows that cannot be read.")
@click.option("--format", "form", type=click.Choice(["table", "jsonl", "csv"]), default=None, show_default=False,
              help="How to print.  [default: table for arguments and terminals, else jsonl]")  # fmt: skip
@click.option("--url", default="127.0.0.1:8001", help="Host and gRPC port of the server.")
@click.option("--model-version", default="", metavar="N", help="Version to ask; the server chooses by default.")
@click.option("--batch-size", type=click.IntRange(1), show_default="the model's limit", help="Rows in a request.")
@click.option("--in-flight", type=click.IntRange(1), default=8, help="Requests on their way at once.")
@click.option("--timeout-seconds", type=click.FloatRange(0, min_open=True), default=10.0, help="Deadline of a request.")
@click.option("--retries", type=click.IntRange(0), default=3, help="How often to send a request again within its time.")
@click.option("--compression", type=click.Choice(["none", "gzip"]), default="none", help="Of what is sent.")
@click.option(
    "--canary", type=click.FloatRange(0, 1), metavar="SHARE", help="Part of the requests for MODEL.candidate."
)
@click.option("--shadow", is_flag=True, help="Ask MODEL.candidate too, and compare.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Write a sample of rows and answers.")
@click.option("--log-share", type=click.FloatRange(0, 1), default=0.01, help="Part of the rows that --log writes.")
@click.option("--log-texts", type=click.Choice(["hashed", "plain"]), default="hashed", help="How --log writes texts.")
@access_options
def command(
    model: str,
    texts: tuple[str, ...],
    source: str | None,
    column: str,
    on_bad_row: str,
    form: str | None,
    url: str,
    model_version: str,
    batch_size: int | None,
    in_flight: int,
    timeout_seconds: float,
    retries: int,
    compression: Literal["none", "gzip"],
    canary: float | None,
    shadow: bool,
    log: Path | None,
    log_share: float,
    log_texts: Literal["hashed", "plain"],
    access: "Access",
) -> None:
    """Classify texts, lines of text, or the rows of a file with a served MODEL.

    \b
    pipeline predict sentiment "What a lovely film!" "What a bore."
    pipeline predict sentiment --input reviews.csv --column review --format csv
    pipeline predict vowels --input speech.ts
    tail -f comments.txt | pipeline predict sentiment --batch-size 1 --in-flight 1
    pipeline predict sentiment --input reviews.csv --column review --shadow

    A FILE is read by its suffix: .csv .tsv .jsonl .parquet, .ts and .npz for sequences; any other is plain text, a
    line each. Labels are not needed, and not read. Answers keep the order of the rows; in JSONL and CSV, `row` is
    the line or row of the source, from 1, to join them by. A text that is not UTF-8 is `not text` in the table, and in
    JSONL and CSV has `valid` false and no label. At a bad row, the rows before it are answered first.

    With --canary or --shadow, a line on standard error compares MODEL.candidate with MODEL. --log hashes texts with the
    key in $PIPELINE_LOG_KEY, or one made for this run. A server's token is read from $PIPELINE_TOKEN.
    """
    from pipeline.client import Client, Split
    from pipeline.predict import predict
    from pipeline.predict.inputs import Skipped
    from pipeline.predict.outputs import csv_lines, jsonl_lines, table_lines

    if shadow and canary is not None:
        raise UsageError("got both --canary and --shadow; give one of them.")
    skipped = Skipped()
    items = _items(texts, source, column, skipped if on_bad_row == "skip" else None)
    form = form or ("table" if texts or sys.stdout.isatty() else "jsonl")
    client_to = partial(
        Client, url, timeout_seconds=timeout_seconds, batch_size=batch_size, in_flight=in_flight, retries=retries,
        compression=compression, access=access,
    )  # fmt: skip
    with ExitStack() as stack:
        sample = stack.enter_context(_request_log(log, log_share, log_texts)) if log else None
        production = client_to(model=model, version=model_version, log=sample)
        client: Client | Split = production
        if shadow or canary is not None:
            candidate = client_to(model=f"{model}.candidate", log=sample)
            client = Split(production, candidate, share=1 if canary is None else canary, shadow=shadow)
        stack.enter_context(client)
        answers = stack.enter_context(closing(predict(client, items)))
        if form == "table":
            lines = table_lines(answers, client.contract(), shutil.get_terminal_size((100, 24)).columns)
        else:
            lines = csv_lines(answers, client.contract()) if form == "csv" else jsonl_lines(answers)
        for line in lines:
            click.echo(line)
    if isinstance(client, Split):
        click.echo(client.comparison, err=True)
    if skipped.count:
        click.echo(f"{source}: {skipped}", err=True)


def _request_log(path: Path, share: float, texts: Literal["hashed", "plain"]) -> "RequestLog":
    from pipeline.client import RequestLog

    key = os.environ.get("PIPELINE_LOG_KEY")
    return RequestLog(path, share, texts=texts, key=key.encode() if key else None)


def _items(texts: tuple[str, ...], source: str | None, column: str, skipped: "Skipped | None") -> "Iterator[Item]":
    from pipeline.predict.inputs import items_of_file, items_of_lines, items_of_texts

    if texts and source:
        raise UsageError("got both TEXT and --input; give one of them.")
    if texts:
        return items_of_texts(map(os.fsencode, texts))  # an argument's own bytes, UTF-8 or not
    if source not in (None, "-"):
        return items_of_file(source, column, skipped)
    if source is None and sys.stdin.isatty():
        raise UsageError("nothing to classify: give TEXT, --input FILE, or lines on standard input.")
    return items_of_lines(sys.stdin.buffer)
