import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline import recipe
from pipeline.dataset import Dataset
from pipeline.errors import DataError, UsageError
from pipeline.reference import Reference
from pipeline.tokenizer import read_vocabulary
from pipeline.train import train
from pipeline.train.prepare import prepare
from pipeline.vectors import out_of_vocabulary, read_vectors
from tests.conftest import QUICK_TEXT

WORDS = ["the", "film", "New York", "était", "电影", "Great"]
MATRIX = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
VOCABULARY = ["the", "a", "great", "电影", "film"]


def as_text(path: Path, *, header: bool) -> Path:
    rows = [" ".join([word, *map(repr, map(float, row))]) for word, row in zip(WORDS, MATRIX, strict=True)]
    path.write_text("\n".join(([f"{len(WORDS)} 4"] if header else []) + rows) + "\n")
    return path


def as_binary(path: Path, *, newline: bytes) -> Path:
    rows = (word.replace(" ", "_").encode() + b" " + row.tobytes() for word, row in zip(WORDS, MATRIX, strict=True))
    path.write_bytes(b"6 4\n" + newline.join(rows) + newline)
    return path


def as_npz(path: Path) -> Path:
    np.savez(path, words=np.array(WORDS), vectors=MATRIX.astype(np.float64))
    return path


def every_form(folder: Path) -> list[Path]:
    return [
        as_text(folder / "glove.txt", header=False),
        as_text(folder / "fasttext.vec", header=True),
        as_binary(folder / "word2vec.bin", newline=b"\n"),
        as_binary(folder / "word2vec2.bin", newline=b""),
        as_npz(folder / "vectors.npz"),
    ]


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    for path in every_form(tmp_path):
        vectors = read_vectors(path, VOCABULARY, is_lowercase=True)
        assert vectors.found.tolist() == [True, False, True, True, True], path
        np.testing.assert_allclose(vectors.matrix, MATRIX[[0, 0, 5, 4, 1]] * vectors.found[:, None], rtol=1e-6)


def test_case_stands_in_only_where_the_tokenizer_folds_it(tmp_path: Path) -> None:
    path = as_text(tmp_path / "v.txt", header=False)
    assert not read_vectors(path, VOCABULARY, is_lowercase=False).found[2]


def test_the_word_as_it_is_written_goes_before_other_cases_and_the_first_of_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("FILM 1 1\nfilm 2 2\nfilm 3 3\nThe 4 4\nTHE 5 5\n")
    vectors = read_vectors(path, ["film", "the"], is_lowercase=True)
    assert vectors.matrix.tolist() == [[2, 2], [4, 4]]


@pytest.mark.parametrize("header", [True, False])
def test_what_editors_of_text_leave_in_a_file_is_read_over(header: bool, tmp_path: Path) -> None:
    """A byte-order mark, line ends of Windows, a word that is not UTF-8."""
    plain = as_text(tmp_path / "v.txt", header=header)
    content = plain.read_bytes().replace("était".encode(), "était".encode("latin-1")).replace(b"\n", b"\r\n")
    (tmp_path / "edited.txt").write_bytes(b"\xef\xbb\xbf" + content)
    ours, theirs = (read_vectors(path, VOCABULARY, is_lowercase=True) for path in (tmp_path / "edited.txt", plain))
    assert np.array_equal(ours.matrix, theirs.matrix)
    assert ours.found[0], "the first word of the file"


def test_the_report_names_the_most_frequent_tokens_without_a_vector(tmp_path: Path) -> None:
    path = as_npz(tmp_path / "v.npz")
    report = out_of_vocabulary(read_vectors(path, VOCABULARY, is_lowercase=True), VOCABULARY)
    assert report == {
        "file": str(path),
        "size": 4,
        "vocabulary": 5,
        "found": 4,
        "coverage": 0.8,
        "missing": ["a"],
    }


def test_a_file_cut_anywhere_is_refused_or_read_up_to_there_and_never_crashes(tmp_path: Path) -> None:
    for whole in every_form(tmp_path):
        content = whole.read_bytes()
        cut = tmp_path / f"cut{whole.suffix}"
        for size in range(0, len(content) - 1, 3):
            cut.write_bytes(content[:size])
            try:
                vectors = read_vectors(cut, VOCABULARY, is_lowercase=True)
            except DataError as error:
                assert str(cut) in str(error)  # noqa: PT017 - either outcome is right
            else:
                assert whole.suffix in {".txt", ".vec"}, "only text may end anywhere at a line's end"
                assert np.isfinite(vectors.matrix).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"film 1 2 3\nthe 1 2\n", r"line 2: wanted a word and 3 numbers, got"),
        ("v.txt", b"film 1 2 x\n", r"line 1: wanted a word and 3 numbers"),
        ("v.txt", b"film nan 2\n", "'film' holds numbers that are not finite"),
        ("v.txt", b"other 1 2\n", "knows none of the vocabulary's 5 tokens"),
        ("v.txt", b"", "knows none of the vocabulary's 5 tokens"),
        ("v.bin", (793712314).to_bytes(4, "little") + b"\x0c\0\0\0", r"a fastText model.*Save its vectors as text"),
        ("v.bin", b"10 4\nfilm \0\0", "cut off in word 1 of 10"),
        ("v.npz", b"PK not a zip", "wanted two arrays"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / name, VOCABULARY, is_lowercase=True)


def test_a_file_that_is_not_there_and_arrays_of_other_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file of word vectors"):
        read_vectors(tmp_path / "none.txt", VOCABULARY, is_lowercase=True)
    np.savez(tmp_path / "v.npz", words=np.array(["a"]), vectors=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"wanted two arrays.*got: words .*\(1,\), vectors .*\(2, 3\)"):
        read_vectors(tmp_path / "v.npz", VOCABULARY, is_lowercase=True)


def test_training_starts_from_the_vectors_and_frozen_ones_stay(text_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("lovely " + " ".join(["0.25"] * 16) + "\nawful " + " ".join(["-0.5"] * 16) + "\n")
    settings = (*QUICK_TEXT, f"model.vectors={path}", "model.freeze_embedding=true", "train.epochs=1")
    run = train(text_data, recipe.load(None, settings), tmp_path / "runs")
    reference = Reference.load(run)
    rows = {token: reference.model.embedding.weight[2 + i] for i, token in enumerate(reference.vocabulary)}
    assert torch.equal(rows["lovely"], torch.full((16,), 0.25))
    assert torch.equal(rows["awful"], torch.full((16,), -0.5))
    report = json.loads((run / "run.json").read_text())["vectors"]
    assert (report["found"], report["vocabulary"]) == (2, len(reference.vocabulary))
    with pytest.raises(UsageError, match="model.embedding_size: wanted 16, the size of the vectors in"):
        train(text_data, recipe.load(None, (*settings, "model.embedding_size=8")), tmp_path / "runs")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_tokens_without_a_vector_start_as_far_spread_as_those_with_one(
    share: float, text_data: Path, tmp_path: Path
) -> None:
    prepare(Dataset(text_data), recipe.load(None, QUICK_TEXT), tmp_path)
    vocabulary = read_vocabulary(onnx.load(tmp_path / "tokenizer.onnx"))
    known = vocabulary[: round(share * len(vocabulary))]
    vectors = np.random.default_rng(0).normal(size=(len(known), 16)) * 3
    np.savez(tmp_path / "v.npz", words=np.array(known), vectors=vectors)
    keys = recipe.load(None, (*QUICK_TEXT, f"model.vectors={tmp_path / 'v.npz'}"))
    rows = prepare(Dataset(text_data), keys).model.embedding.weight[2:].detach()
    assert float(rows[len(known) :].std()) == pytest.approx(float(rows[: len(known)].std()), rel=0.25)


def test_one_number_is_spread_enough(text_data: Path, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("lovely 0.5\n")
    settings = (*QUICK_TEXT, f"model.vectors={tmp_path / 'v.txt'}", "model.embedding_size=1")
    assert prepare(Dataset(text_data), recipe.load(None, settings)).model.embedding.weight.isfinite().all()
