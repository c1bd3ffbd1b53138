"""Options that several commands share."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

repository_option = click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
wait_option = click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    help="How long to wait while another command changes the repository.",
)


def access_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of how a server is reached; it takes them as one `access`.

    The token is read from the environment, where no list of processes shows it.
    """

    @click.option("--ca", type=click.Path(path_type=Path), help="Authority (PEM) that signed the server's certificate.")
    @click.option("--certificate", type=click.Path(path_type=Path), help="This client's certificate (PEM).")
    @click.option("--key", type=click.Path(path_type=Path), help="The private key (PEM) of --certificate.")
    @click.option(
        "--server-name", default="", show_default=False, metavar="HOST", help="Host name in the server's certificate."
    )
    @functools.wraps(function)
    def with_access(
        *, ca: Path | None, certificate: Path | None, key: Path | None, server_name: str, **others: Any
    ) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the error says it; gRPC's own log would say it thrice
        from pipeline.client import Access

        function(access=Access(ca, certificate, key, os.environ.get("PIPELINE_TOKEN", ""), server_name), **others)

    return with_access
