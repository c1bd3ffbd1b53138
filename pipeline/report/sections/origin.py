"""The origin: which bytes, made by which versions, from which commands."""

import shlex
from collections.abc import Iterator

from pipeline.report.blocks import Block, Cell, Code, Column, Fold, Group, Note, Section, Table
from pipeline.report.engines import all_checks, verify_options
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE


def files_and_versions(records: Records) -> Section:
    """Show the SHA-256 of every file, whether it is the verified one, and the versions that made it."""
    lead = "The bytes this page speaks of, and the software that made and checked them."
    with expecting(records.run / "run.json", "train"):
        blocks: tuple[Block, ...] = (_files(records), _dataset(records.info), _versions(records))
    return Section("files", "Files and versions", lead, blocks)


def reproduction(records: Records) -> Section:
    """Show the commands that make this run again, and the recipe they use."""
    lead = "The commands that make this run again from the same data."
    with expecting(records.run / "run.json", "train"):
        blocks: list[Block] = [Code("\n".join(_commands(records)))]
        if not records.info["deterministic"]:
            note = "Trained without --deterministic: another run of these commands may differ in the last digits."
            blocks.append(Note(note))
        blocks.append(Fold("The resolved recipe (recipe.toml): every key, defaults included", (Code(records.recipe),)))
    return Section("reproduce", "Reproduce", lead, tuple(blocks))


def _files(records: Records) -> Table:
    verified = records.parity["hashes"] if records.parity else {}
    names = sorted({*records.digests, *verified})
    rows = tuple(
        (Cell(name), Cell(records.digests.get(name, "missing")), _state(records, name, verified.get(name)))
        for name in names
    )
    return Table(
        "Files of the run, as they are now",
        (Column("file"), Column("SHA-256", is_code=True), Column("state")),
        (Group(rows),),
    )


def _state(records: Records, name: str, verified: str | None) -> Cell:
    if verified is None:
        return Cell(
            "a record" if name.endswith((".json", ".jsonl")) and name != "signature.json" else "not verified", "quiet"
        )
    return (
        Cell("as verified", "good") if records.digests.get(name) == verified else Cell("changed since verified", "bad")
    )


def _dataset(info: Record) -> Table:
    rows = tuple((Cell(name), Cell(digest)) for name, digest in info["dataset_hashes"].items())
    return Table(f"Data set: {info['dataset']}", (Column("file"), Column("SHA-256", is_code=True)), (Group(rows),))


def _versions(records: Records) -> Table:
    trained = records.info["versions"]
    checked = records.parity["versions"] if records.parity else {}
    rows = tuple(
        (Cell(name), Cell(trained.get(name, NONE)), Cell(checked.get(name, NONE))) for name in {**trained, **checked}
    )
    return Table("Versions", (Column("package"), Column("trained with"), Column("verified with")), (Group(rows),))


def _commands(records: Records) -> Iterator[str]:
    info, recipe = records.info, shlex.quote(str(records.run / "recipe.toml"))
    source = records.profile["source"] if records.profile else {}
    if isinstance(source, dict) and "package" in source and "name" in source:
        yield f"pipeline data fetch {shlex.quote(str(source['name']))}"
    options = f" --device {info['device']}" if info["device"] != "cpu" else ""
    options += " --deterministic" if info["deterministic"] else ""
    yield f"RUN=$(pipeline train {recipe} --data {shlex.quote(str(records.data))}{options})"
    yield 'pipeline evaluate "$RUN"'
    yield 'pipeline export "$RUN"' + (" --variants auto" if records.variants else "")
    engines = dict.fromkeys(check["engine"] for check in all_checks(records.parity)) if records.parity else {}
    yield f'pipeline verify "$RUN"{verify_options([*engines])}'
    yield 'pipeline report "$RUN"'
