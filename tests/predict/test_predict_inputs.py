import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError, UsageError
from pipeline.predict.inputs import Skipped, items_of_file, items_of_texts


def rows(path, column="text"):
    return [item.row for item in items_of_file(str(path), column)]


def test_a_line_of_plain_text_is_a_row_whatever_its_bytes(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n\xff\xfe\ntw\x0co\xc2\x85\nlast")
    assert rows(path) == [b"one", b"", b"\xff\xfe", b"tw\x0co\xc2\x85", b"last"]


def test_a_csv_column_is_read_with_its_quotes_line_breaks_and_bad_bytes(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_bytes(b'id,review\n1,"a, b\n""c"""\n\n2,\xff\n3,\n')
    assert rows(path, "review") == [b'a, b\n"c"', b"\xff", b""]


def test_a_long_text_of_a_csv_is_read(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text(f"text\n{'word ' * 100_000}\n")
    assert rows(path) == [b"word " * 100_000]


def test_a_quote_in_a_tsv_is_an_ordinary_character(tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text('text\tid\n"so\t1\n')
    assert rows(path) == [b'"so']


def test_json_lines_are_read_with_bad_bytes_and_lone_surrogates(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"text": "caf\xc3\xa9"}\n\n{"text": "\xff"}\n{"text": "\\ud800"}\n')
    assert rows(path) == ["café".encode(), b"\xff", b"\xed\xa0\x80"]


def test_a_parquet_column_is_read_and_null_is_an_empty_text(tmp_path):
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": ["a", None, "é"], "other": [1, 2, 3]}), path)
    assert rows(path) == [b"a", b"", "é".encode()]


def test_a_dictionary_column_of_parquet_is_read(tmp_path):
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), path)
    assert rows(path) == [b"a", b"b", b"a"]


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (pa.binary(), pa.binary()),
        (pa.binary(), pa.string()),
        (pa.large_binary(), pa.large_binary()),
        (pa.large_binary(), pa.large_string()),
    ],
)
def test_a_parquet_column_of_any_bytes_is_text(tmp_path, stored, kind):
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": pa.array([b"a", b"\xff"], stored).view(kind)}), path)
    assert rows(path) == [b"a", b"\xff"]


def test_sequences_are_read_from_ts_without_labels(tmp_path):
    path = tmp_path / "frames.ts"
    path.write_text("@dimensions 2\n@classLabel false\n@data\n1,2:3,4\n")
    (item,) = items_of_file(str(path))
    assert item.shown == "line 4, 2 frames"
    assert np.array_equal(item.row, [[1, 3], [2, 4]])


def test_sequences_are_read_from_npz(tmp_path):
    path = tmp_path / "frames.npz"
    features = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    np.savez(path, features=features, lengths=[4, 2])
    items = list(items_of_file(str(path)))
    assert [item.shown for item in items] == ["row 1, 4 frames", "row 2, 2 frames"]
    assert np.array_equal(items[1].row, features[1, :2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n", r"x.csv: no column 'text'. The file has 'a', 'b'. Choose with --column"),
        ("x.csv", "", r"x.csv: the file is empty; wanted a header line"),
        ("x.csv", "text,b\n1\n", r"x.csv: line 2: malformed: wrong number of columns"),
        ("x.csv", 'text\n"open', r"x.csv: line 2: malformed: unexpected end of data"),
        ("x.jsonl", "{", r"x.jsonl: line 1: malformed: not JSON"),
        ("x.jsonl", '{"text": ' + "[" * 100_000, r"x.jsonl: line 1: malformed: not JSON"),
        ("x.jsonl", '{"text": 5}', r"x.jsonl: line 1: text is not a string"),
        ("x.jsonl", "[]", r"x.jsonl: line 1: malformed: not a JSON object"),
        ("x.parquet", "PAR1", r"x.parquet: cannot be read as Parquet"),
        ("x.npz", "PK", r"x.npz: cannot be read as .npz"),
        ("missing.txt", None, r"missing.txt: no such file"),
        ("missing.csv", None, r"missing.csv: no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((DataError, UsageError), match=message) as caught:
        rows(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_parquet_column_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), path)
    with pytest.raises(DataError, match=r"x.parquet: row 1: text is not a string"):
        rows(path)


def test_a_bad_sequence_is_named_by_its_row(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, features=np.full((2, 1, 3), np.nan, np.float32), lengths=[1, 1], labels=["a", "b"])
    with pytest.raises(DataError, match=r"x.npz: row 1: missing or non-finite value"):
        rows(path)


def test_items_have_the_line_or_row_of_their_source(tmp_path):
    (tmp_path / "x.txt").write_text("a\n\nb\n")
    (tmp_path / "x.csv").write_text('text\n"a\nb"\nc\n')
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "x.parquet")
    numbers = {path.suffix: [item.number for item in items_of_file(str(path))] for path in tmp_path.iterdir()}
    assert numbers == {".txt": [1, 2, 3], ".csv": [2, 4], ".jsonl": [1, 3], ".parquet": [1, 2]}
    assert [item.number for item in items_of_texts([b"a", b"b"])] == [1, 2]


def test_bad_rows_are_skipped_and_the_first_are_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,b\n1\ngood,2\n" + "3\n" * 6)
    skipped = Skipped()
    assert [item.row for item in items_of_file(str(path), skipped=skipped)] == [b"good"]
    reason = "malformed: wrong number of columns"
    named = "; ".join(f"line {number}: {reason}" for number in (2, 4, 5, 6, 7))
    assert str(skipped) == f"skipped 7 bad row(s): {named}; …"


def test_a_bad_sequence_is_skipped(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, features=np.array([[[1.0]], [[np.nan]], [[2.0]]], np.float32), lengths=[1, 1, 1])
    skipped = Skipped()
    assert [item.number for item in items_of_file(str(path), skipped=skipped)] == [1, 3]
    assert str(skipped) == "skipped 1 bad row(s): row 2: missing or non-finite value"


def test_files_are_read_lazily(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "good"}) + "\nnot JSON\n")
    assert next(items_of_file(str(path))).row == b"good"
