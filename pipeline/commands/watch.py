"""``pipeline watch``: parse, ask, and show."""

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import access_options
from pipeline.commands.signals import stop_on_signals
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.client import Access
    from pipeline.watch import Round

SECONDS = click.FloatRange(0, min_open=True)


@click.command("watch")
@click.argument("model", metavar="NAME")
@click.option("--url", default="127.0.0.1:8001", help="Host and gRPC port of the server.")
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"),
              help="What the server serves; only read.")  # fmt: skip
@access_options
@click.option("--metrics-address", default="127.0.0.1", help="Loopback; any other only inside a container.")
@click.option("--metrics-port", type=click.IntRange(0, 65_535), default=9109, help="0 picks a free one.")
@click.option("--every-seconds", type=SECONDS, default=5.0, help="From one round to the next.")
@click.option("--timeout-seconds", type=SECONDS, default=3.0, help="Deadline of a request.")
def command(
    model: str,
    url: str,
    repository: Path,
    access: "Access",
    metrics_address: str,
    metrics_port: int,
    every_seconds: float,
    timeout_seconds: float,
) -> None:
    """Ask the served model NAME its golden rows, again and again, and show as metrics whether it is right.

    A round asks, through a new connection, the rows that the version in service was verified with. Prometheus reads
    the outcome at http://127.0.0.1:9109/metrics; standard error has a line whenever it changes. Ctrl-C or SIGTERM
    ends it.

    \b
    pipeline watch sentiment
    pipeline watch sentiment --url gpu1.example:8443 --ca ca.crt --certificate client.crt --key client.key
    """
    from pipeline.watch import Exposition, watch

    _check_address(metrics_address)
    with stop_on_signals() as stop, Exposition(model, metrics_address, metrics_port) as exposition:
        rounds = watch(
            url, model, repository, stop, access=access, every_seconds=every_seconds, timeout_seconds=timeout_seconds
        )
        said = ""
        click.echo(f"http://{metrics_address}:{exposition.port}/metrics", err=True)
        for finished in rounds:
            exposition.show(finished)
            if (text := _text(model, finished)) != said:
                click.echo(text, err=True)
                said = text


def _check_address(address: str) -> None:
    from pipeline.serve.network import is_in_container

    try:
        is_loopback = ip_address(address).is_loopback
    except ValueError as error:
        raise UsageError(f"--metrics-address {address}: not an IP address; wanted one such as 127.0.0.1.") from error
    if not is_loopback and not is_in_container():
        raise UsageError(
            f"--metrics-address {address}: other machines could reach it; outside a container it is loopback only."
        )


def _text(model: str, finished: "Round") -> str:
    if finished.failure:
        return f"{model}: no answer: {finished.failure}"
    if finished.wrong:
        return f"{model}: version {finished.version} answers wrongly: {finished.wrong[0]}"
    return f"{model}: version {finished.version} answers as it was verified."
