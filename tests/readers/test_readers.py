import io
import json
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError, UsageError
from pipeline.readers.delimited import read_delimited
from pipeline.readers.rows import BadRow, Example, Record, examples
from pipeline.readers.source import interface_of, read, read_records, sha256_of_source

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def rows(path: str, **columns: str) -> list[tuple[int, object]]:
    """Return each row's number with its (input, label), or with the reason why it is bad."""
    return [
        (row.number, row.reason if isinstance(row, BadRow) else (row.input, row.label)) for row in read(path, **columns)
    ]


def test_csv_rows_are_numbered_by_the_line_they_begin_at_even_after_quoted_line_breaks(tmp_path):
    path = write(
        tmp_path / "a.csv",
        b'\xef\xbb\xbfid,text,label\r\n1,"two\r\nlines, ""quoted""",x\r\n2,a,b,c\r\n\r\n'
        b'3, ,x\r\n4,good,\r\n5,\xff\xfe,x\r\n6,"a"b,x\r\n7,last,y',
    )
    assert rows(path) == [
        (2, ('two\r\nlines, "quoted"', "x")),
        (4, "malformed: wrong number of columns"),
        (6, "empty text"),
        (7, "no label"),
        (8, "invalid UTF-8"),
        (9, "malformed: ',' expected after '\"'"),
        (10, ("last", "y")),
    ]


def test_a_quote_that_is_never_closed_is_a_bad_row(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\ngood,x\n"open,y\nmore,x\n')
    assert rows(path) == [(2, ("good", "x")), (3, "malformed: unexpected end of data")]


@given(st.lists(st.tuples(WORDS, st.sampled_from(["a", "b"])), min_size=1))
def test_csv_gives_back_any_text_and_the_right_line(pairs):
    content, numbers = "text,label\n", []
    for text, label in pairs:
        numbers.append(content.count("\n") + content.count("\r") - content.count("\r\n") + 1)
        quoted = text.replace('"', '""')
        content += f'"{quoted}",{label}\n'
    found = list(examples(read_delimited(io.BytesIO(content.encode()), ",")))
    assert found == [Example(number, *pair) for number, pair in zip(numbers, pairs, strict=True)]


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "text,label,text\nx,y,z\n"), ("a.tsv", "label\ttext\tlabel\nx\ty\tz\n")]
)
def test_a_wanted_column_that_is_named_twice_is_refused(tmp_path, name, content):
    path = write(tmp_path / name, content)
    wanted = "text" if name == "a.csv" else "label"
    with pytest.raises(
        UsageError, match=rf"{name}: column '{wanted}' is there 2 times; wanted once. Rename all but one"
    ):
        rows(path)
    write(tmp_path / name, content.replace(wanted, "other"))
    assert rows(path, **{wanted: "label" if wanted == "text" else "text"})


def test_a_parquet_column_that_is_named_twice_is_refused(tmp_path):
    columns = [pa.array(["x"]), pa.array(["y"]), pa.array(["z"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "label", "text"]), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a.parquet: column 'text' is there 2 times; wanted once"):
        rows(str(tmp_path / "a.parquet"))


def test_tsv_takes_quotes_as_they_are(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"open\tx\nsay "hi"\ty\n')
    assert rows(path) == [(2, ('"open', "x")), (3, ('say "hi"', "y"))]


def test_json_lines_reports_what_is_wrong_with_each_line(tmp_path):
    lines = [
        json.dumps({"text": "good", "label": 1}),
        "",
        '{"text": "cut',
        "[" * 100_000,
        json.dumps({"text": None, "label": "x"}),
        json.dumps({"text": "no label"}),
        json.dumps({"text": 3, "label": "x"}),
        '{"text": "\\ud800", "label": "x"}',
        json.dumps({"text": "list", "label": ["x"]}),
        json.dumps({"text": "two lines", "label": "x\ny"}),
        json.dumps({"text": "yes", "label": True}),
        "[1]",
    ]
    path = write(tmp_path / "a.jsonl", b"\n".join([*(line.encode() for line in lines), b'{"text": "\xff"}']))
    assert rows(path) == [
        (1, ("good", "1")),
        (3, "malformed: not JSON"),
        (4, "malformed: not JSON"),
        (5, "empty text"),
        (6, "no label"),
        (7, "text is not a string"),
        (8, "invalid UTF-8"),
        (9, "label is not a word or a number"),
        (10, "label holds a line break or another control character"),
        (11, ("yes", "true")),
        (12, "malformed: not a JSON object"),
        (13, "invalid UTF-8"),
    ]


def test_parquet_is_read_by_column_name_and_one_bad_value_costs_one_row(tmp_path):
    texts = pa.array([b"one", b"\xff", None, b"drei"], pa.binary()).view(pa.string())
    labels = pa.array(["x", "x", "y", None]).dictionary_encode()
    pq.write_table(pa.table({"review": texts, "stars": labels, "text": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    found = rows(str(tmp_path / "a.parquet"), text="review", label="stars")
    assert found == [(1, ("one", "x")), (2, "invalid UTF-8"), (3, "empty text"), (4, "no label")]


HEADER = "# about\n@problemName P\n@timeStamps false\n@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n"


def test_ts_reads_unequal_lengths_and_several_dimensions(tmp_path):
    good, longer = read(write(tmp_path / "a.ts", HEADER + "1,2:3,4:a\n5,6,7:8,9,1e1:b\n"))
    assert (good.number, good.label, longer.number, longer.label) == (8, "a", 9, "b")
    np.testing.assert_array_equal(good.input, np.array([[1, 3], [2, 4]], np.float32))
    np.testing.assert_array_equal(longer.input, np.array([[5, 8], [6, 9], [7, 10]], np.float32))


def test_ts_reports_what_is_wrong_with_each_case(tmp_path):
    cases = [
        "1,?:3,4:a",
        "1:2:3:a",
        "1,2:3:a",
        "1,x:3,4:a",
        "1,nan:3,4:a",
        "1:2:c",
        "1:2:",
        "::a",
        "1,1e99:3,4:a",
        "1:2:b",
    ]
    found = rows(write(tmp_path / "a.ts", HEADER + "\n".join(cases)))
    assert [reason for _, reason in found[:-1]] == [
        "missing or non-finite value",
        "malformed: wrong number of dimensions",
        "malformed: dimensions of different lengths",
        "malformed: not a number",
        "missing or non-finite value",
        "label is not one of @classLabel",
        "no label",
        "no frames",
        "missing or non-finite value",
    ]
    assert [number for number, _ in found] == list(range(8, 18))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no @data line"),
        (HEADER[:60], "no @data line"),
        ("1,2:3,4:a\n", "line 1: wanted an @ line"),
        (HEADER.replace("true a b", "false"), "nothing to learn"),
        (HEADER.replace("@timeStamps false", "@timeStamps true"), "only series without time stamps"),
    ],
)
def test_ts_refuses_a_header_it_cannot_use(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        rows(write(tmp_path / "a.ts", content))


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez_compressed(path, **arrays)
    return str(path)


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), is_padded=st.booleans(), seed=st.integers(0, 9))
def test_npz_gives_back_padded_and_concatenated_frames(tmp_path_factory, lengths, is_padded, seed):
    generator = np.random.default_rng(seed)
    sequences = [generator.normal(size=(length, 3)).astype(np.float32) for length in lengths]
    features = np.concatenate(sequences)
    if is_padded:
        features = np.full((len(lengths), 5, 3), np.nan, np.float32)
        for row, sequence in zip(features, sequences, strict=True):
            row[: len(sequence)] = sequence
    labels = generator.choice(["a", "b"], len(lengths))
    path = save(tmp_path_factory.mktemp("npz") / "a.npz", features=features, lengths=np.array(lengths), labels=labels)
    for row, sequence, label, number in zip(read(path), sequences, labels, range(1, 99), strict=False):
        assert (row.number, row.label) == (number, label)
        np.testing.assert_array_equal(row.input, sequence)


def test_npz_reports_bad_rows_and_reads_on(tmp_path):
    features = np.ones((5, 2, 3))
    features[1, 0, 0] = np.inf
    features[4] *= 1e300
    path = save(tmp_path / "a.npz", features=features, lengths=np.array([2, 1, 0, 3, 1]), labels=np.array([b"x"] * 5))
    (_, (frames, label)), *bad = rows(path)
    assert (frames.shape, label) == ((2, 3), "x")
    reasons = ["missing or non-finite value", "no frames", "length is negative or beyond the array"]
    assert bad == [(2, reasons[0]), (3, reasons[1]), (4, reasons[2]), (5, reasons[0])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((2, 3), object)}, "pickled objects, which are never read"),
        ({"labels": np.array(["a", {}], object)}, "pickled objects, which are never read"),
        ({"features": np.ones((3, 3))}, r"wanted \(N, T, F\), or \(sum of lengths = 2, F\)"),
        ({"features": np.asfortranarray(np.ones((2, 3)))}, "column order"),
        ({"labels": np.array(["a"])}, "do not go with"),
        ({"lengths": np.array([[1], [1]])}, r"wanted \(N,\)"),
    ],
)
def test_npz_refuses_arrays_that_do_not_fit(tmp_path, change, message):
    arrays = {"features": np.ones((2, 3)), "lengths": np.array([1, 1]), "labels": np.array(["a", "b"])}
    with pytest.raises(DataError, match=message):
        rows(save(tmp_path / "a.npz", **arrays | change))


def test_npz_names_a_missing_array(tmp_path):
    with pytest.raises(UsageError, match=r"a.npz: no array 'lengths'; did you mean 'length'"):
        rows(save(tmp_path / "a.npz", features=np.ones((1, 1)), length=np.array([1]), labels=np.array(["a"])))


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_a_truncated_binary_file_is_one_clear_line(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"text": ["a"] * 99, "label": ["b"] * 99}), path)
    else:
        save(path, features=np.ones((9, 9, 2)), lengths=np.full(9, 2), labels=np.full(9, "a"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"a.{suffix}: cannot be read as .*the file may be cut off$"):
        rows(str(path))


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_a_damaged_byte_never_gives_another_kind_of_error(tmp_path_factory, suffix, position, value):
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"]}), path)
    else:
        saver = np.savez if position % 2 else np.savez_compressed
        saver(path, features=np.ones((3, 4, 2)), lengths=np.full(3, 2), labels=np.full(3, "a"))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        rows(str(path))
    except (DataError, UsageError) as error:
        assert f"a.{suffix}: " in str(error)  # noqa: PT017 - only some bytes matter


def test_an_npz_member_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", features=np.ones((1, 2, 2)), lengths=np.array([2]), labels=np.array(["a"]))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["features.npy"] = members["features.npy"].replace(b"(1, 2, 2)", b"(1, 9, 9)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match=r"cannot be read as .npz"):
        rows(path)


def test_a_uri_of_any_file_system_is_read_like_a_path():
    content = b"text,label\nhello,x\n"
    with fsspec.open("memory://reviews/a.csv", "wb") as file:
        file.write(content)
    assert rows("memory://reviews/a.csv") == [(2, ("hello", "x"))]
    assert len(sha256_of_source("memory://reviews/a.csv")) == 64
    with pytest.raises(UsageError, match=r"memory://reviews/b.csv: no such file"):
        rows("memory://reviews/b.csv")


def test_a_local_file_uri_is_read(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nhello,x\n")
    assert rows(f"file://{path}") == rows(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.csv", "nowhere.csv: no such file"),
        ("/dev/null/a.csv", "a.csv: no such file"),
        ("a.cvs", r"unknown suffix '.cvs'. Did you mean .csv\?"),
        ("nosuch://a.csv", "nosuch://a.csv: cannot be opened: Protocol not known"),
    ],
)
def test_a_source_that_cannot_be_opened_is_named(source, message):
    with pytest.raises(UsageError, match=message):
        rows(source)


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UsageError, match="a folder; wanted a file"):
        rows(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "texts,label\nx,y\n"), ("a.tsv", "texts\tlabel\nx\ty\n"), ("a.jsonl", '{"texts": "x", "label": "y"}\n')],
)
def test_a_missing_column_is_named_with_the_nearest_and_all_there_are(tmp_path, name, content):
    message = r"no column 'text'; did you mean 'texts'\? The file has 'texts', 'label'. Choose with --text and --label"
    with pytest.raises(UsageError, match=message):
        rows(write(tmp_path / name, content))


def test_an_empty_csv_has_no_header(tmp_path):
    with pytest.raises(DataError, match=r"a.csv: the file is empty; wanted a header line"):
        rows(write(tmp_path / "a.csv", ""))


def test_the_suffix_tells_the_interface():
    assert [interface_of(name) for name in ("A.CSV", "s3://b/x.parquet", "a.ts", "a.npz")] == ["text"] * 2 + [
        "features"
    ] * 2


def write_table(path: Path, suffix: str, columns: dict[str, list[str]]) -> str:
    """Write text columns in the format of a suffix."""
    path = path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return str(path)
    values = list(zip(*columns.values(), strict=True))
    if suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in values]
    else:
        lines = [("," if suffix == ".csv" else "\t").join(row) for row in (columns, *values)]
    return write(path, "\n".join(lines))


@pytest.mark.parametrize(
    ("suffix", "first", "unit"),
    [(".csv", 2, "line"), (".tsv", 2, "line"), (".jsonl", 1, "line"), (".parquet", 1, "row")],
)
def test_a_table_without_labels_is_read_as_it_stands(tmp_path, suffix, first, unit):
    path = write_table(tmp_path, suffix, {"id": ["7", "8"], "review": ["good", ""]})
    records = list(read_records(path, "review"))
    assert records == [Record(first, "good", None, unit), Record(first + 1, "", None, unit)]
    with pytest.raises(UsageError, match=r"no column 'reviews'; did you mean 'review'\? .* Choose with --column\.$"):
        next(read_records(path, "reviews"))


def test_an_archive_without_labels_is_read(tmp_path):
    path = save(tmp_path / "a.npz", features=np.ones((2, 4, 3)), lengths=np.array([4, 9]))
    record, bad = read_records(path)
    assert (record.number, record.input.shape, record.label, record.unit) == (1, (4, 3), None, "row")
    assert bad == BadRow(2, "length is negative or beyond the array", "row")
    with pytest.raises(UsageError, match="no array 'labels'"):
        rows(path)


@pytest.mark.parametrize(
    ("header", "ending"),
    [
        ("@classLabel false", ""),
        ("@problemName unlabelled", ""),
        ("@classLabel true a b", ":a"),
        ("@classLabel true a b", ":?"),
        ("@targetLabel true", ":0.25"),
    ],
)
@pytest.mark.parametrize("size", ["@dimensions 2", "@univariate false"])
def test_series_are_read_without_their_labels_if_they_have_any(tmp_path, header, ending, size):
    path = write(tmp_path / "a.ts", f"{size}\n{header}\n@data\n1,2:3,4{ending}\n5:6{ending}\n")
    first, second = read_records(path)
    assert (first.number, first.label, second.label) == (4, None, None)
    np.testing.assert_array_equal(first.input, np.array([[1, 3], [2, 4]], np.float32))
    np.testing.assert_array_equal(second.input, np.array([[5, 6]], np.float32))


def test_a_reader_leaves_the_file_open_for_its_caller(tmp_path):
    with Path(write(tmp_path / "a.csv", "text,label\nx,y\nz,y\n")).open("rb") as file:
        records = read_delimited(file, ",")
        assert next(records).input == "x"
        records.close()
        assert not file.closed
    with Path(tmp_path / "a.csv").open("rb") as file:
        records = read_delimited(file, ",")
        next(records)
    records.close()


class Refused(Exception):
    """Like the errors of clients of object stores: no OSError."""


class _Breaking(io.BytesIO):
    def read(self, size: int = -1) -> bytes:
        if self.tell():
            raise Refused("connection reset\nby peer")
        return super().read(size)


class Remote(fsspec.AbstractFileSystem):
    """A file system whose files cannot be opened, or break off after their first block."""

    protocol = "faulty"

    def _open(self, path: str, *arguments: object, **options: object) -> io.BytesIO:  # noqa: ARG002 - fsspec's
        if "forbidden" in path:
            raise Refused("403: Forbidden")
        return _Breaking(b"text,label\n" + b"some words,x\n" * 200_000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forbidden.csv", r"^faulty://forbidden.csv: cannot be read: Refused: 403: Forbidden$"),
        ("breaks.csv", r"^faulty://breaks.csv: cannot be read: Refused: connection reset$"),
        ("breaks.jsonl", r"^faulty://breaks.jsonl: cannot be read: Refused: connection reset$"),
        ("breaks.npz", r"^faulty://breaks.npz: cannot be read: Refused: connection reset$"),
        ("breaks.parquet", r"^faulty://breaks.parquet: cannot be read: Refused: connection reset$"),
    ],
)
def test_any_failure_of_a_file_system_is_one_line_with_the_source(name, message):
    fsspec.register_implementation("faulty", Remote, clobber=True)
    with pytest.raises(DataError, match=message):
        rows(f"faulty://{name}")
    with pytest.raises(DataError, match=message):
        sha256_of_source(f"faulty://{name}")


def test_a_remote_archive_is_read(tmp_path):
    path = Path(save(tmp_path / "a.npz", features=np.ones((2, 1, 3)), lengths=np.array([1, 1]), labels=np.arange(2)))
    for name in ("a.npz", "a.parquet"):
        if name == "a.parquet":
            path = tmp_path / name
            pq.write_table(pa.table({"text": ["x", "y"], "label": ["0", "1"]}), path)
        with fsspec.open(f"memory://remote/{name}", "wb") as file:
            file.write(path.read_bytes())
        assert [row.label for row in read(f"memory://remote/{name}")] == ["0", "1"]
