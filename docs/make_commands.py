"""Print ``docs/commands.md``: every command's help, as the program gives it. `make docs` writes it, a test compares."""

from collections.abc import Iterator

import click
from click.testing import CliRunner

from pipeline.commands import main


def pages(command: click.Command, words: list[str]) -> Iterator[str]:
    """Yield a section for a command and for each command inside it."""
    help_text = CliRunner().invoke(main, [*words, "--help"], terminal_width=100, prog_name="pipeline").output
    yield f"## pipeline {' '.join(words)}".rstrip() + f"\n\n```text\n{help_text.rstrip()}\n```\n"
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from pages(inner, [*words, name])


if __name__ == "__main__":
    print("# Commands\n\nWritten by `make docs` from `--help`.\n")
    print("\n".join(pages(main, [])), end="")
