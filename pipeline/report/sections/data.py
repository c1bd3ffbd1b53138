"""The data: what was learned from, and what was left out."""

from collections.abc import Iterator

from pipeline.report.blocks import Block, Cell, Column, Facts, Group, Note, Section, Stack, Table
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import count, percent, plural

SPLITS = ("train", "validation", "test")


def section(records: Records) -> Section:
    """Show the rows of each split and class, their lengths, and what was dropped."""
    with expecting(records.data / "dataset.json", "data"):
        blocks = tuple(_blocks(records))
    return Section("data", "Data", "What the model learned from, and the rows kept back to judge it.", blocks)


def _blocks(records: Records) -> Iterator[Block]:
    profile = records.profile
    if profile is None:
        yield Note(
            f"{records.data} is no longer there, so its profile cannot be shown. Say where it is with --data.", "bad"
        )
    elif profile["hashes"] != records.info["dataset_hashes"]:
        yield Note(f"{records.data} now holds other rows than this run was trained on: not shown.", "bad")
    else:
        yield from _profile_blocks(profile)


def _profile_blocks(profile: Record) -> Iterator[Block]:
    yield _classes(profile)
    yield Stack((_lengths(profile), _dropped(profile)))
    if profile["straddling"]:
        yield Note(f"{count(profile['straddling'])} rows stand in more than one split.", "bad")
    yield Facts((*_bad(profile), *_source(profile)))


def _classes(profile: Record) -> Table:
    total = profile["rows"]
    share = sum(total.values()) or 1
    rows = [
        (Cell(name), *(Cell(count(counts[split])) for split in SPLITS), Cell(percent(sum(counts.values()) / share)))
        for name, counts in profile["class_rows"].items()
    ]
    everything = (Cell("all"), *(Cell(count(total[split])) for split in SPLITS), Cell(percent(1.0)))
    columns = (Column("class"), *(Column(split, is_number=True) for split in SPLITS), Column("share", is_number=True))
    return Table("Rows of each class and split", columns, (Group(tuple(rows)), Group((everything,))))


def _lengths(profile: Record) -> Table:
    names = list(next(iter(profile["lengths"].values()), {}))
    rows = tuple(
        (Cell(f"{unit} in a row"), *(Cell(count(found[name])) for name in names))
        for unit, found in profile["lengths"].items()
    )
    titles = {"p50": "median", "p90": "90 % up to", "p99": "99 % up to", "max": "longest"}
    columns = (Column("length"), *(Column(titles.get(name, name), is_number=True) for name in names))
    return Table("Lengths", columns, (Group(rows),))


def _dropped(profile: Record) -> Table:
    columns = ("rows read", "bad", "duplicates", "conflicts", "also in test")
    rows = tuple(
        (
            Cell(name),
            Cell(count(found["rows"])),
            Cell(count(sum(tally["count"] for tally in found["bad"].values()))),
            Cell(count(found["duplicates"]["count"])),
            Cell(count(found["conflicts"]["count"])),
            Cell(count(found.get("also_in_test", 0))),
        )
        for name, found in profile["read"].items()
    )
    caption = "Rows read and left out"
    return Table(caption, (Column("read from"), *(Column(title, is_number=True) for title in columns)), (Group(rows),))


def _bad(profile: Record) -> Iterator[tuple[str, str]]:
    for name, found in profile["read"].items():
        for reason, tally in found["bad"].items():
            lines = ", ".join(map(str, tally["lines"])) + (", …" if tally["count"] > len(tally["lines"]) else "")
            yield (
                f"bad: {reason}",
                f"{plural(tally['count'], 'row')} of {name} left out ({found.get('unit', 'line')} {lines})",
            )


def _source(profile: Record) -> Iterator[tuple[str, str]]:
    for key, value in profile["source"].items():
        if isinstance(value, dict):
            yield key, ", ".join(f"{name} {item}" for name, item in value.items())
        else:
            yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    shares = [
        f"{share:.0%} {split}".replace("%", " %")
        for split, share in zip(SPLITS, profile["fractions"], strict=True)
        if share
    ]
    if "test" in profile["read"]:
        shares.append("test as the source has it")
    yield "split", f"seed {profile['seed']}: {', '.join(shares)}"
    for split, unseen in profile["unseen"].items():
        yield f"unseen in {split}", ", ".join(f"{percent(share)} of {unit}" for unit, share in unseen.items())
