"""`pipeline run`: every stage from a recipe to a published version."""

from pathlib import Path

import click

from pipeline.errors import CheckFailed, PipelineError


@click.command("run", short_help="All of the above: from a recipe to a published version.")
@click.argument("recipe", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Prepared data set; the recipe's data.source by default.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder that holds the runs.")
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a recipe key: train.batch_size=32.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
def command(
    recipe: str | None, data: Path | None, runs: Path, repository: Path, settings: tuple[str, ...], device: str
) -> None:
    """Fetch, train, evaluate, export, verify, publish and report; print the version directory.

    A data.source that is no folder is fetched as a named set. The first stage that fails ends it with that stage's exit
    code; what earlier stages wrote stays.

    \b
    pipeline run sentiment
    pipeline run --data data/reviews --set train.epochs=3
    """
    from pipeline.commands.evaluate import table
    from pipeline.commands.train import train_with_progress
    from pipeline.commands.verify import line
    from pipeline.evaluate import evaluate
    from pipeline.export import export
    from pipeline.publish import publish
    from pipeline.recipe import load
    from pipeline.report import write_report
    from pipeline.train import Choices
    from pipeline.verify import verify

    keys = load(recipe, settings)
    run = train_with_progress(keys, data, runs, Choices(device=device))
    if run.info["interrupted"]:
        raise PipelineError(
            f"interrupted; the best weights so far are in {run.path}. Go on with `pipeline train --resume {run.path}`."
        )
    click.echo(table(evaluate(run)), err=True)
    export(run)
    report = verify(run, progress=lambda check: click.echo(line(check), err=True))
    page = write_report(run)
    click.echo(f"report: {page}", err=True)
    if not report.passed:
        raise CheckFailed(f"{run.path}: not verified, so not published. See {page}.")
    click.echo(publish(run, repository))
