"""Scored files beside their inputs: rows, order, columns, bytes, and the answers that rows have alone."""

import csv
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.score import score
from pipeline.score.formats import Columns, columns, format_of
from pipeline.score.model import find_model
from pipeline.score.operator import Operator
from tests.score.conftest import opinions

CLASSES = ("blame", "praise")
COLUMNS = Columns("text", "", CLASSES)
NOT_TEXT = [b"\xff\xfe", b"\xed\xa0\x80"]
HOSTILE = [b"", b"the film is lovely\0her song is awful", "l'été 很好".encode(), b"is bad " * 5000, *NOT_TEXT]


def alone(run: RunDirectory, texts: list[bytes]) -> list[tuple[str, np.ndarray, bool]]:
    """What each text's answer is when nobody else asks."""
    session = open_session(run / "model.onnx")
    answers = []
    for text in texts:
        feed = {"text": np.array([[text]], dtype=f"S{len(text) + 1}")}
        label, probabilities, valid = session.run(["label", "probabilities", "valid"], feed)
        answers.append((label[0, 0], probabilities[0], valid[0, 0]))
    return answers


def assert_answers(rows: list[dict], run: RunDirectory, texts: list[bytes]) -> None:
    for row, (label, probabilities, valid) in zip(rows, alone(run, texts), strict=True):
        assert row["valid"] is bool(valid)
        if valid:
            assert row["label"] == label
            np.testing.assert_allclose(list(row["probabilities"].values()), probabilities, atol=1e-6)
            assert row["probability"] == pytest.approx(max(probabilities), abs=1e-6)
        else:
            assert row["label"] is row["probability"] is None


def test_texts_of_a_window_are_answered_as_they_are_alone(verified_run: RunDirectory) -> None:
    texts = [text.encode() for text in opinions(300)] + HOSTILE
    answers = Operator(find_model(verified_run.path))(texts)
    for row, (label, probabilities, valid) in enumerate(alone(verified_run, texts)):
        assert (answers.labels[row], answers.valid[row]) == (label, valid)
        np.testing.assert_allclose(answers.probabilities[row], probabilities, atol=1e-6)


def test_a_parquet_file_keeps_its_rows_columns_types_and_metadata(
    verified_run: RunDirectory, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "WINDOW_ROWS", 16)
    texts = [*(text.encode() for text in opinions(50)), *HOSTILE, None]
    table = pa.table(
        {
            "id": pa.array(range(len(texts)), pa.uint16()),
            "review": pa.array(texts, pa.binary()),
            "tags": [[{"x": 1.5}]] * len(texts),
            "kind": pa.array(["a"] * len(texts)).dictionary_encode(),
        }
    ).replace_schema_metadata({"made by": "hand"})
    pq.write_table(table, tmp_path / "reviews.parquet", row_group_size=20)
    record = score(verified_run.path, [tmp_path / "reviews.parquet"], tmp_path / "to", column="review", shard_rows=30)
    scored = pq.read_table(tmp_path / "to" / "reviews.parquet")
    table = pq.read_table(tmp_path / "reviews.parquet")
    assert scored.select(table.column_names).equals(table, check_metadata=True)
    assert scored.column_names == [*table.column_names, "label", "probability", "probabilities", "valid"]
    assert_answers(scored.to_pylist(), verified_run, [text or b"" for text in texts])
    assert (record.counts.rows, record.counts.not_valid) == (len(texts), len(NOT_TEXT))


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "ZSTD", "GZIP", "LZ4", "BROTLI"])
def test_a_parquet_file_keeps_its_compression(
    verified_run: RunDirectory, tmp_path: Path, here: None, codec: str
) -> None:
    pq.write_table(pa.table({"text": opinions(5)}), tmp_path / "x.parquet", compression=codec)
    score(verified_run.path, [tmp_path / "x.parquet"], tmp_path / "to")
    before, after = (pq.read_metadata(path / "x.parquet").row_group(0) for path in (tmp_path, tmp_path / "to"))
    assert {after.column(n).compression for n in range(after.num_columns)} == {before.column(0).compression}


def test_times_of_96_bits_stay_the_times_that_they_are(verified_run: RunDirectory, tmp_path: Path, here: None) -> None:
    times = [datetime(1500, 1, 2, 3, 4, 5, 6), datetime(2026, 12, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), None]
    table = pa.table({"text": opinions(4), "at": pa.array(times, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "x.parquet", use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(tmp_path / "x.parquet").schema.column(1).physical_type == "INT96"
    score(verified_run.path, [tmp_path / "x.parquet"], tmp_path / "to")
    assert pq.read_table(tmp_path / "to" / "x.parquet").column("at").to_pylist() == times


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_arrow_type_of_text_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", None, "b"]).cast(kind)}), path)
    form = format_of(path, COLUMNS)
    with path.open("rb") as file:
        (part,) = form.ranges(file, 10)
        (window,) = form.windows(file, part)
    assert window.texts == [b"a", b"", b"b"]


@pytest.mark.parametrize(("suffix", "ending"), [("csv", "\r\n"), ("csv", "\n"), ("tsv", "\n")])
def test_delimited_rows_keep_their_bytes_and_get_more_fields(
    verified_run: RunDirectory, tmp_path: Path, here: None, suffix: str, ending: str
) -> None:
    mark, quoted = ("\t", "her song is bad...") if suffix == "tsv" else (",", '"her song,\n""is"" bad..."')
    rows = [f"007{mark}the film is lovely", f"{mark}{quoted}", f"x{mark}", f"y{mark}很好"]
    header = f"\ufeffid{mark}text"
    path = tmp_path / f"reviews.{suffix}"
    content = ending.join([header, rows[0], "", *rows[1:]]).encode() + ending.encode() + f"z{mark}".encode() + b"\xff"
    path.write_bytes(content)  # a blank line, bytes that are not UTF-8, and no line break at the end
    score(verified_run.path, [path], tmp_path / "to", shard_rows=2)
    scored = (tmp_path / "to" / path.name).read_bytes()
    for row in [header, *rows]:
        assert row.encode() + mark.encode() in scored
    text = scored.decode(errors="replace").removeprefix("\ufeff")
    names, *records = csv.reader(text.splitlines(keepends=True), delimiter=mark, quoting=3 if suffix == "tsv" else 0)
    assert names == ["id", "text", "label", "probability", "probability of blame", "probability of praise", "valid"]
    assert records[-1] == ["z", "\ufffd", "", "", "", "", "false"]
    texts = [record[1].encode() for record in records[:-1]]
    answers = [dict(zip(names, record, strict=True)) for record in records[:-1]]
    for answer in answers:
        answer |= {"probability": float(answer["probability"]), "valid": answer["valid"] == "true"}
        answer["probabilities"] = {name: float(answer[f"probability of {name}"]) for name in CLASSES}
    assert_answers(answers, verified_run, texts)


def test_json_lines_keep_their_bytes_and_get_more_keys(verified_run: RunDirectory, tmp_path: Path, here: None) -> None:
    lines = [
        b'{"n": 1.0e400, "text": "the film is lovely", "n": 2}',
        b"",
        b'  {"text": "caf\\u00e9 is bad..."}  ',
        b'{"text": null, "deep": {"a": [{}]}}',
        b"{}",
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
    ]
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join([b'{"text": "very good"}', *lines]))
    score(verified_run.path, [path], tmp_path / "to", shard_rows=2)
    scored = (tmp_path / "to" / path.name).read_bytes().splitlines()
    kept = [b'\xef\xbb\xbf{"text": "very good"}', *filter(None, lines)]
    assert all(after.startswith(before.rstrip()[:-1]) for before, after in zip(kept, scored, strict=True))
    rows = [json.loads(line.decode("utf-8-sig", errors="surrogateescape")) for line in scored]
    assert [list(row)[-4:] for row in rows] == [["label", "probability", "probabilities", "valid"]] * len(rows)
    texts = [b"very good", b"the film is lovely", "café is bad...".encode(), b"", b"", b"\xff", b"\xed\xa0\x80"]
    assert_answers(rows, verified_run, texts)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv", "a.jsonl"])
def test_a_file_without_rows_gets_the_columns_alone(verified_run: RunDirectory, write, tmp_path, here, name) -> None:
    path = write(name, [])
    assert score(verified_run.path, [path], tmp_path / "to").counts.rows == 0
    scored = tmp_path / "to" / name
    if path.suffix == ".parquet":
        assert pq.read_schema(scored).names == ["id", "text", "label", "probability", "probabilities", "valid"]
    else:
        assert scored.read_bytes().startswith(path.read_bytes().rstrip())


@given(
    groups=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    rows=st.integers(1, 50),
    suffix=st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_shards_hold_every_row_once_and_in_order(tmp_path_factory, groups: list[int], rows: int, suffix: str) -> None:
    path = tmp_path_factory.mktemp("ranges") / f"x.{suffix}"
    texts = [f"{number}" for number in range(sum(groups))]
    if suffix == "parquet":
        table = pa.table({"text": texts})
        with pq.ParquetWriter(path, table.schema) as writer:
            for start, count in zip(np.cumsum([0, *groups]), groups, strict=False):
                writer.write_table(table.slice(start, count))
    elif suffix == "csv":
        path.write_text("text\n" + "".join(f'"{text}"\n' for text in texts))
    else:
        path.write_text("".join(f'\n{{"text": "{text}"}}\n' for text in texts))
    form = format_of(path, COLUMNS)
    with path.open("rb") as file:
        parts = list(form.ranges(file, rows))
        found = [[text for window in form.windows(file, part) for text in window.texts] for part in parts]
    assert [text.decode() for texts in found for text in texts] == texts
    assert [len(texts) for texts in found] == [part.rows for part in parts]
    assert suffix == "parquet" or all(part.rows <= rows for part in parts)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_long_rows_make_short_windows(write, name: str) -> None:
    path = write(name, [str(number) * 2**20 for number in range(10, 30)] + ["short"] * 3)
    form = format_of(path, COLUMNS)
    with path.open("rb") as file:
        parts = list(form.ranges(file, 1000))
        windows = [window.texts for part in parts for window in form.windows(file, part)]
        assert sum(map(len, windows)) == 23
        assert max(sum(map(len, window)) for window in windows) <= columns.WINDOW_BYTES + 3 * 2**21


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_a_text_that_would_exhaust_the_memory_is_a_bad_row(
    verified_run: RunDirectory, write, tmp_path, here, name
) -> None:
    path = write(name, ["fine", "x" * (columns.MOST_TEXT_BYTES + 1), "good"])
    with pytest.raises(DataError, match=r"a\.\w+: (row|line) [23]: a text of more than 8 MiB. Mend the row, or use"):
        score(verified_run.path, [path], tmp_path / "to")
    record = score(verified_run.path, [path], tmp_path / "skipping", skips_bad_rows=True)
    assert (record.counts.rows, record.counts.skipped) == (2, 1)
