"""The variants: what each precision loses and gains, whether it was kept, and why others fell."""

from pipeline.report.blocks import Block, Cell, Column, Group, Note, Section, Table
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE, count, decimal, percent, plural, scientific

_COLUMNS = (
    Column("variant"),
    Column("outcome"),
    Column("accuracy", is_number=True),
    Column("labels flipped", is_number=True),
    Column("calibration error", is_number=True),
    Column("max |Δ| in other company", is_number=True),
    Column("bytes", is_number=True),
)


def section(records: Records) -> Section:
    """Show what `pipeline export --variants` measured."""
    lead = "The same model with its recurrent layers at a lower precision, behind a gate."
    anchor, title = "variants", "Variants"
    if records.variants is None:
        return Section(anchor, title, lead, missing="export --variants auto")
    with expecting(records.run / "variants.json", "export --variants auto"):
        if records.variants["model_sha256"] != records.digests.get("model.onnx"):
            stale = "variants.json belongs to another model than this run's: run `pipeline export --variants` again."
            return Section(anchor, title, lead, (Note(stale, "bad"),))
        return Section(anchor, title, lead, tuple(_blocks(records.variants)))


def _blocks(variants: Record) -> list[Block]:
    sizes = sorted({1, variants["batch_size"]})
    speeds = tuple(Column(f"rows/s, {_batch(size)}", is_number=True) for size in sizes)
    full = {"name": "fp32", "figures": variants["fp32"], "bytes": variants["fp32"]["bytes"], "outcome": "exported"}
    rows = tuple(_row(record, sizes) for record in (full, *variants["variants"]))
    caption = f"Measured on {plural(variants['rows'], 'validation row')}; the worst of two arrangements"
    blocks: list[Block] = [
        Note(f"Fastest of those that were kept: {variants['chosen']}."),
        Table(caption, (*_COLUMNS, *speeds), (Group(rows),)),
    ]
    return blocks + [Note(_reasons(record)) for record in variants["variants"] if record["outcome"] != "kept"]


def _row(record: Record, sizes: list[int]) -> tuple[Cell, ...]:
    tone = {"kept": "good", "fell": "bad"}
    outcome = Cell(record["outcome"], tone.get(record["outcome"], "plain"))  # type: ignore[arg-type]
    if "figures" not in record:
        return (Cell(record["name"]), outcome, *(Cell(NONE) for _ in range(5 + len(sizes))))
    figures, speeds = record["figures"], record.get("speeds")
    return (
        Cell(record["name"]),
        outcome,
        Cell(percent(figures["accuracy"])),
        Cell(count(figures["flips"])),
        Cell(decimal(figures["calibration_error"])),
        Cell(f"{scientific(figures['company_difference'])}, {plural(figures['company_flips'], 'flip')}"),
        Cell(count(record["bytes"])),
        *(Cell(_speed(speeds[str(size)]) if speeds else NONE) for size in sizes),
    )


def _speed(speed: Record) -> str:
    return f"{speed['rows_per_second']:,.0f}, {decimal(speed['ratio'], 2)} × fp32"


def _batch(size: int) -> str:
    return "alone" if size == 1 else f"batches of {size}"


def _reasons(record: Record) -> str:
    repair = f" It passes with one of these in full precision: {', '.join(record['repaired_by'])}."
    return f"{record['name']} fell. {'; '.join(record['reasons'])}.{repair if record['repaired_by'] else ''}"
