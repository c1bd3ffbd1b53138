"""`pipeline export`: parse options, print the model's path."""

from pathlib import Path

import click


@click.command("export", short_help="Write a run's model as one self-contained ONNX file.")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Write RUN/model.onnx, from raw text or frames to label, and its signature.json; print the model's path.

    \b
    pipeline export runs/sentiment-001
    """
    from pipeline.export import export
    from pipeline.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    export(directory)
    click.echo(directory / "model.onnx")
