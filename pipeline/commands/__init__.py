"""The command room: each file parses one command's options and calls its stage; nothing else lives here.

A command's module is imported only when it is asked for, and its stage only when it runs, so that
``pipeline --help`` answers without loading torch or ONNX Runtime.
"""

import errno
import importlib
import sys
from typing import Any

import click

from pipeline import __version__
from pipeline.errors import PipelineError

COMMANDS = (
    "data",
    "train",
    "evaluate",
    "attack",
    "export",
    "verify",
    "publish",
    "rollout",
    "promote",
    "rollback",
    "retire",
    "status",
    "diff",
    "serve",
    "predict",
    "score",
    "drift",
    "report",
    "run",
    "rate",
    "search",
    "suspects",
    "bench",
    "tune",
    "watch",
    "doctor",
)


class Stages(click.Group):
    """A group whose commands live in modules of the same name; errors of ours end in one line and their exit code."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import one command's module."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pipeline.commands.{name}").command
        return command

    def invoke(self, context: click.Context) -> Any:
        """Run a command; print an error of ours, or of the system, as one message; exit with its code."""
        try:
            return super().invoke(context)
        except PipelineError as error:
            click.echo(f"pipeline: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader left; click ends quietly
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"pipeline: {where}{error.strerror or error}.", err=True)
            sys.exit(PipelineError.exit_code)


@click.command(cls=Stages, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """From labelled text or sequences to a verified LSTM classifier behind Triton.

    \b
    pipeline data fetch sentiment
    pipeline run sentiment
    pipeline serve                                      # leave it running
    pipeline predict sentiment "What a lovely film!"    # in another terminal

    Exit codes: 0 done, 1 could not, 2 usage, 3 checked and failed.
    """
