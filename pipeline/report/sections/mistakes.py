"""The mistakes: at which lengths they happen, and the ones the model is surest of."""

from pipeline.report.blocks import Block, Cell, Column, Drawing, Drawings, Fold, Group, Note, Section, Table
from pipeline.report.drawing import shares
from pipeline.report.records import Record, Records
from pipeline.report.sections.evaluation import HELD_OUT, evaluation_section
from pipeline.report.words import count, percent


def section(records: Records) -> Section:
    """Show accuracy by length and the most confident wrong rows."""
    lead = "Where the answers go wrong. The surest mistakes are also where a label itself is most often wrong."

    def blocks(evaluation: Record) -> tuple[Block, ...]:
        if any("lengths" not in evaluation[name] for name in HELD_OUT):
            return (Note("evaluation.json is of an earlier version: run `pipeline evaluate` again."),)
        unit = "tokens" if records.info["interface"] == "text" else "frames"
        drawings = tuple(_by_length(evaluation[name], name, unit) for name in HELD_OUT)
        test, validation = (_surest(evaluation[name], name, unit) for name in HELD_OUT)
        return (Drawings(drawings), test, Fold("The same on the validation split", (validation,)))

    return evaluation_section(records, "mistakes", "Mistakes", lead, blocks)


def _by_length(split: Record, name: str, unit: str) -> Drawing:
    rows = [(f"{row['from']}–{row['to']}", row["accuracy"]) for row in split["lengths"]]
    shown = "; ".join(f"{name} {unit} {percent(share)}" for name, share in rows)
    caption = f"{name.capitalize()}: accuracy by length, each range about as many rows. {shown}."
    return Drawing(caption, shares(f"Accuracy by length. {caption}", unit, "% right", rows))


def _surest(split: Record, name: str, unit: str) -> Block:
    if not split["confident_wrong"]:
        return Note(f"No row of the {name} split is answered wrongly.")
    rows = tuple(
        (
            Cell(count(row["row"])),
            Cell(row["label"]),
            Cell(row["predicted"]),
            Cell(percent(row["probability"])),
            Cell(count(row["length"])),
            Cell(row["text"] or ""),
        )
        for row in split["confident_wrong"]
    )
    columns = (
        Column("row"),
        Column("label"),
        Column("answer"),
        Column("sure", is_number=True),
        Column(unit, is_number=True),
        Column("text"),
    )
    return Table(f"The wrong answers the model is surest of: {name}", columns, (Group(rows),))
