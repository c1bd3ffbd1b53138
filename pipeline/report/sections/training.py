"""The training: how loss, accuracy and gradients went, epoch by epoch."""

from pipeline.report.blocks import Block, Cell, Column, Drawing, Drawings, Fold, Group, Note, Section, Table
from pipeline.report.drawing import Series, curves
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import count, decimal, is_finite, percent, plural

_DRAWN = ("train_loss", "validation_loss", "validation_accuracy", "gradient_norm")


def section(records: Records) -> Section:
    """Show the curves, and every figure under them."""
    with expecting(records.run / "metrics.jsonl", "train"):
        lead, blocks = _lay_out(records)
    missing = "" if records.epochs is not None else "train"
    return Section("training", "Training", lead, blocks, missing)


def _lay_out(records: Records) -> tuple[str, tuple[Block, ...]]:
    epochs = records.epochs or []
    if not epochs:
        return "", () if records.epochs is None else (Note("Not one epoch was finished.", "bad"),)
    best = max((epoch["epoch"] for epoch in epochs if epoch["is_best"]), default=None)
    lead = f"{plural(len(epochs), 'epoch')} in {_duration(epochs)} on the {records.info['device'].upper()}"
    lead += f"; the weights of epoch {best} were kept." if best else "; no epoch was kept."
    blocks: list[Block] = []
    if records.info["interrupted"]:
        blocks.append(Note("Training was interrupted; these are the epochs that were finished.", "bad"))
    broken = [str(epoch["epoch"]) for epoch in epochs if not all(is_finite(epoch[name]) for name in _DRAWN)]
    if broken:
        text = f"Figures of epoch {', '.join(broken)} are not finite: training diverged, and the lines have gaps there."
        blocks.append(Note(text, "bad"))
    blocks += [_curves(epochs, best), Fold("Every epoch in figures", (_table(epochs),))]
    return lead, tuple(blocks)


def _curves(epochs: list[Record], best: int | None) -> Drawings:
    numbers = [epoch["epoch"] for epoch in epochs]

    def values(name: str) -> list[float | None]:
        return [epoch[name] for epoch in epochs]

    losses = Series("train", values("train_loss"), style=2), Series("validation", values("validation_loss"))
    accuracy, norm = Series("validation", values("validation_accuracy")), Series("norm", values("gradient_norm"))
    final = epochs[-1] if best is None else next(epoch for epoch in epochs if epoch["epoch"] == best)
    at = "the last epoch" if best is None else f"epoch {best}"
    loss_words = f"Loss. Validation at {at}: {decimal(final['validation_loss'])} nats."
    accuracy_words = f"Validation accuracy. At {at}: {percent(final['validation_accuracy'])}."
    drawings = []
    clipped = percent(final["clipped_share"])
    norm_words = (
        f"Gradient norm before clipping. At {at}: {decimal(final['gradient_norm'], 3)}; {clipped} of steps cut."
    )
    if all("learning_rate" in epoch for epoch in epochs):
        rate = Series("rate", values("learning_rate"))
        rate_words = f"Learning rate of each epoch's last step. At {at}: {final['learning_rate']:g}."
        drawings.append(Drawing(rate_words, curves(f"Learning rate. {rate_words}", "rate", numbers, [rate], best)))
    return Drawings(
        (
            Drawing(loss_words, curves(f"Loss by epoch. {loss_words}", "nats", numbers, losses, best)),
            Drawing(
                accuracy_words, curves(f"Accuracy by epoch. {accuracy_words}", "% right", numbers, [accuracy], best)
            ),
            Drawing(norm_words, curves(f"Gradient norm by epoch. {norm_words}", "norm", numbers, [norm], best)),
            *drawings,
        )
    )


def _table(epochs: list[Record]) -> Table:
    titles = ("train loss", "validation loss", "accuracy", "gradient norm", "clipped", "tokens/s", "seconds")
    columns = (Column("epoch"), *(Column(title, is_number=True) for title in titles), Column("kept"))
    rows = tuple(
        (
            Cell(str(epoch["epoch"])),
            Cell(decimal(epoch["train_loss"])),
            Cell(decimal(epoch["validation_loss"])),
            Cell(percent(epoch["validation_accuracy"])),
            Cell(decimal(epoch["gradient_norm"], 3)),
            Cell(percent(epoch["clipped_share"])),
            Cell(count(round(epoch["tokens_per_second"])) if is_finite(epoch["tokens_per_second"]) else "–"),
            Cell(decimal(epoch["seconds"], 1)),
            Cell("best so far", "good") if epoch["is_best"] else Cell(""),
        )
        for epoch in epochs
    )
    return Table("Figures of every epoch", columns, (Group(rows),))


def _duration(epochs: list[Record]) -> str:
    seconds = sum(epoch["seconds"] for epoch in epochs if is_finite(epoch["seconds"]))
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.1f} seconds"
