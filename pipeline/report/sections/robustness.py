"""Under attack: accuracy after typos and after moves along the gradient."""

from pipeline.report.blocks import Block, Cell, Column, Drawing, Drawings, Group, Note, Section, Table
from pipeline.report.drawing import shares
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import count, percent


def section(records: Records) -> Section:
    """Show what `pipeline attack` found."""
    lead = "What the worst small changes do, found by a search that knows the true label."
    anchor, title = "robustness", "Robustness"
    if records.attack is None:
        return Section(anchor, title, lead, missing="attack")
    with expecting(records.run / "attack.json", "attack"):
        if records.attack["weights_sha256"] != records.digests.get("weights.safetensors"):
            stale = "attack.json belongs to other weights than this run holds now: run `pipeline attack` again."
            return Section(anchor, title, lead, (Note(stale, "bad"),))
        return Section(anchor, title, lead, tuple(_blocks(records.attack)))


def _blocks(attack: Record) -> list[Block]:
    rows = [("none", attack["clean_accuracy"])]
    rows += [(f"{row['typos']} typo{'s' * (row['typos'] > 1)}", row["accuracy"]) for row in attack["typos"]]
    cells = tuple((Cell(name), Cell(percent(accuracy))) for name, accuracy in rows)
    caption = f"Accuracy on {count(attack['rows'])} rows of the test split, drawn with seed {attack['seed']}"
    blocks: list[Block] = [Table(caption, (Column("attack"), Column("accuracy", is_number=True)), (Group(cells),))]
    moves = [(f"{row['epsilon']:g}", row["accuracy"]) for row in attack["epsilon"]]
    words = "Accuracy when the embedded steps move by ε along the gradient; ε in root-mean-square norms of a step."
    blocks.append(Drawings((Drawing(words, shares(f"{words} {_spoken(moves)}", "ε", "% right", moves)),)))
    if attack["examples"]:
        blocks.append(_examples(attack["examples"]))
    return blocks


def _spoken(moves: list[tuple[str, float]]) -> str:
    return "; ".join(f"{name}: {percent(accuracy)}" for name, accuracy in moves)


def _examples(examples: list[Record]) -> Table:
    keys = ("text", "attacked", "label", "predicted")
    rows = tuple(tuple(Cell(str(example[key])[:300]) for key in keys) for example in examples[:10])
    columns = tuple(Column(title) for title in ("text", "misspelt", "label", "answer to the misspelt text"))
    return Table("Misspellings that change the answer", columns, (Group(rows),))
