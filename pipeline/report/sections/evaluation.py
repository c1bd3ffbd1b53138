"""The held-out figures: how good, on which classes, confused how, and how sure."""

from collections.abc import Callable

from pipeline.report.blocks import (
    Block,
    Cell,
    Column,
    Drawing,
    Drawings,
    Fold,
    Group,
    Matrix,
    Note,
    Section,
    Shade,
    Table,
)
from pipeline.report.drawing import reliability
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import count, decimal, percent

HELD_OUT = ("test", "validation")
MOST_CLASSES_IN_A_MATRIX = 30
_CONFUSIONS_SHOWN = 10


def held_out(records: Records) -> Section:
    """Show loss, accuracy and macro-F1 beside the baseline."""
    lead = "Rows that no weight was fitted to: the validation split chose the epoch, the test split chose nothing."
    return evaluation_section(records, "held-out", "Held-out figures", lead, lambda evaluation: (_figures(evaluation),))


def by_class(records: Records) -> Section:
    """Show each class's figures, and which are taken for which."""

    def blocks(evaluation: Record) -> tuple[Block, ...]:
        test, validation = (tuple(_class_blocks(evaluation[name], name)) for name in HELD_OUT)
        return (*test, Fold("The same on the validation split", validation))

    lead = (
        "How each class is recognised on the test split, and what it is taken for. In the matrix a row is a true "
        "class, a column a predicted one, and the shade a cell's share of its row."
    )
    return evaluation_section(records, "classes", "Classes", lead, blocks)


def calibration(records: Records) -> Section:
    """Show whether a probability of 90 % is right nine times in ten."""
    lead = "A calibrated model that says 90 % is right nine times in ten: its dots lie on the diagonal."
    return evaluation_section(
        records,
        "calibration",
        "Calibration",
        lead,
        lambda evaluation: (*_temperature(records), *_calibration_blocks(evaluation)),
    )


def evaluation_section(
    records: Records, anchor: str, title: str, lead: str, blocks: Callable[[Record], tuple[Block, ...]]
) -> Section:
    """Return a section made from ``evaluation.json``, or one that says why there is none."""
    if records.evaluation is None:
        return Section(anchor, title, lead, missing="evaluate")
    with expecting(records.run / "evaluation.json", "evaluate"):
        if records.is_evaluation_stale:
            stale = "evaluation.json belongs to other weights than this run holds now: run `pipeline evaluate` again."
            return Section(anchor, title, lead, (Note(stale, "bad"),))
        return Section(anchor, title, lead, blocks(records.evaluation))


def _figures(evaluation: Record) -> Table:
    titles = ("rows", "loss (nats)", "accuracy", "majority baseline", "macro-F1", "calibration error")
    rows = tuple(
        (
            Cell(name),
            Cell(count(split["rows"])),
            Cell(decimal(split["loss"])),
            Cell(percent(split["accuracy"])),
            Cell(percent(split["majority_baseline"])),
            Cell(percent(split["macro_f1"])),
            Cell(decimal(split["calibration"]["expected_calibration_error"])),
        )
        for name, split in ((name, evaluation[name]) for name in HELD_OUT)
    )
    columns = (Column("split"), *(Column(title, is_number=True) for title in titles))
    return Table("Figures on the rows kept back", columns, (Group(rows),))


def _class_blocks(split: Record, name: str) -> list[Block]:
    blocks: list[Block] = [_classes(split, name)]
    if len(split["classes"]) <= MOST_CLASSES_IN_A_MATRIX:
        blocks.append(_confusion(split, name))
    else:
        blocks.append(
            Note(f"A matrix of {len(split['classes'])} classes cannot be read; the worst confusions stand below.")
        )
    if len(split["classes"]) > 2:
        blocks.append(_worst_confusions(split, name))
    return blocks


def _classes(split: Record, name: str) -> Table:
    columns = ("rows", "precision", "recall", "F1")
    rows = tuple(
        (
            Cell(row["label"]),
            Cell(count(row["rows"])),
            *(Cell(percent(row[key])) for key in ("precision", "recall", "f1")),
        )
        for row in split["classes"]
    )
    titles = (Column("class"), *(Column(title, is_number=True) for title in columns))
    return Table(f"Precision, recall and F1 of each class: {name}", titles, (Group(rows),))


def _confusion(split: Record, name: str) -> Matrix:
    labels = tuple(row["label"] for row in split["classes"])
    rows = tuple(
        tuple(_shade(number, sum(counts), truth, predicted) for predicted, number in zip(labels, counts, strict=True))
        for truth, counts in zip(labels, split["confusion"], strict=True)
    )
    caption = f"Confusion matrix: {name}"
    return Matrix(caption, labels, rows)


def _shade(number: int, total: int, truth: str, predicted: str) -> Shade:
    share = number / total if total else 0.0
    return Shade(
        number, share, f"{truth}, predicted as {predicted}: {count(number)} of {count(total)} ({percent(share)})"
    )


def _worst_confusions(split: Record, name: str) -> Block:
    labels = [row["label"] for row in split["classes"]]
    mistakes = [
        (number, labels[truth], labels[predicted], number / sum(counts))
        for truth, counts in enumerate(split["confusion"])
        for predicted, number in enumerate(counts)
        if truth != predicted and number
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    if not mistakes:
        return Note(f"No row of the {name} split is taken for another class.")
    rows = tuple(
        (Cell(truth), Cell(predicted), Cell(count(number)), Cell(percent(share)))
        for number, truth, predicted, share in mistakes[:_CONFUSIONS_SHOWN]
    )
    columns = (
        Column("true class"),
        Column("taken for"),
        Column("rows", is_number=True),
        Column("of the class", is_number=True),
    )
    return Table(f"The most frequent confusions: {name}", columns, (Group(rows),))


def _temperature(records: Records) -> tuple[Block, ...]:
    """Say what temperature scaling did, where `pipeline train` has fitted one."""
    found = records.info.get("calibration")
    if not found:
        return ()
    before, after = found["before"], found["after"]
    text = (
        f"A temperature of {decimal(found['temperature'], 3)} was fitted to the validation split and folded into the "
        f"last layer: there, loss went from {decimal(before['loss'])} to {decimal(after['loss'])} nats, ECE from "
        f"{decimal(before['expected_calibration_error'])} to {decimal(after['expected_calibration_error'])}."
    )
    return (Note(text),)


def _calibration_blocks(evaluation: Record) -> tuple[Block, ...]:
    drawings, tables = [], []
    for name in HELD_OUT:
        found = evaluation[name]["calibration"]
        bins = [(bin_["confidence"], bin_["accuracy"], bin_["rows"]) for bin_ in found["bins"]]
        error = decimal(found["expected_calibration_error"])
        caption = f"{name.capitalize()}: expected calibration error (ECE) {error}. A dot's area is its number of rows."
        drawings.append(Drawing(caption, reliability(f"Reliability diagram. {caption}", bins)))
        tables.append(_bins(name, bins))
    return Drawings(tuple(drawings)), Fold("Every bin in figures", tuple(tables))


def _bins(name: str, bins: list[tuple[float, float, int]]) -> Table:
    rows = tuple((Cell(percent(sure)), Cell(percent(right)), Cell(count(rows))) for sure, right, rows in bins)
    columns = (Column("mean confidence"), Column("right", is_number=True), Column("rows", is_number=True))
    return Table(f"Confidence and accuracy: {name}", columns, (Group(rows),))
