"""Hostile archives: whatever reads one refuses it in one line, and nothing is unpacked, written or run."""

import ast
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from pipeline.archives import LEAST_SUSPECT_BYTES
from pipeline.data.download import open_member
from pipeline.errors import DataError
from pipeline.readers.source import read
from pipeline.vectors import read_vectors
from pipeline.verify.foreign.draw import read_rows
from pipeline.verify.foreign.spec import ModelSpec, TensorSpec

ROOT = Path(__file__).parents[1]
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
UNPACKERS = {"extract", "extractall", "unpack_archive"}
MEBIBYTE = 2**20


def in_data(path: Path) -> None:
    list(read(str(path)))


def in_vectors(path: Path) -> None:
    read_vectors(path, ["a"], is_lowercase=False)


def in_foreign_rows(path: Path) -> None:
    read_rows(path, ModelSpec((TensorSpec("features", "FP32", ("batch", 2)),), ()))


READERS = (in_data, in_vectors, in_foreign_rows)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arrays of zeros: 256 MiB each, packed more than 200 times smaller."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_array(archive, "lengths", np.array([1]))
        write_array(archive, "labels", np.array(["a"]))
        write_array(archive, "words", np.array(["a"]))
        for name, shape in (("features", (1, LEAST_SUSPECT_BYTES // 8, 2)), ("vectors", (LEAST_SUSPECT_BYTES // 8, 2))):
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
                for _ in range(LEAST_SUSPECT_BYTES // MEBIBYTE):
                    member.write(bytes(MEBIBYTE))
    return path


def write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w") as member:
        npy.write_array(member, array)


@pytest.mark.parametrize("reader", READERS)
def test_an_archive_that_would_unpack_to_far_more_than_it_takes_is_refused(
    reader: Callable[[Path], None], bomb: Path
) -> None:
    with pytest.raises(
        DataError, match=r"^\S*bomb.npz: [^\n]*features.npy: [\d,]+ bytes that would unpack to 268,435,584"
    ) as it:
        reader(bomb)
    assert "\n" not in str(it.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_directory_that_states_a_smaller_size_gains_nothing(
    reader: Callable[[Path], None], bomb: Path, tmp_path: Path
) -> None:
    """The member is cut where its directory says, and its checksum is another then."""
    content = bomb.read_bytes()
    with zipfile.ZipFile(bomb) as archive:
        start, size = archive.start_dir, archive.getinfo("features.npy").file_size.to_bytes(4, "little")
    directory = content[start:].replace(size, (200).to_bytes(4, "little"))
    (tmp_path / "liar.npz").write_bytes(content[:start] + directory)
    with pytest.raises(DataError, match=r"^\S*liar.npz: [^\n]*Bad CRC-32[^\n]*$"):
        reader(tmp_path / "liar.npz")


@pytest.mark.parametrize("reader", READERS)
def test_an_array_that_claims_more_than_any_memory_holds_is_refused(
    reader: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "claims.npz"
    with zipfile.ZipFile(path, "w") as archive:
        write_array(archive, "lengths", np.array([1]))
        write_array(archive, "labels", np.array(["a"]))
        for name, descr, shape in (("features", "<f4", (1, 2**50, 2)), ("words", "<U9", (2**50,))):
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
        write_array(archive, "vectors", np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match=r"^\S*claims.npz: [^\n]*$"):
        reader(path)


def test_names_that_lead_outside_write_nothing(tmp_path: Path) -> None:
    wheel = tmp_path / "inside" / "hostile.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../outside.txt", "written")
        archive.writestr(f"{tmp_path}/absolute.txt", "written")
    before = sorted(tmp_path.rglob("*"))
    for name in ("../outside.txt", f"{tmp_path}/absolute.txt"):
        with open_member(wheel, name) as file:
            assert file.read() == b"written"
    assert sorted(tmp_path.rglob("*")) == before


def findings(source: str) -> Iterator[str]:
    """Yield what in a module could run what it reads, or write where an archive tells it to."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            case ast.Attribute():
                names = [ast.unparse(node), node.attr]
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                yield f"allow_pickle={ast.unparse(value)}"
        for name in names:
            if name.split(".")[0] in UNPICKLERS or name in UNPACKERS | {"torch.load"}:
                yield name
            if name.endswith((".read_pickle", ".unpack_archive")):
                yield name


@pytest.mark.parametrize(
    "hostile",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from joblib import load",
        "def later():\n    import marshal",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "pd.read_pickle(path)",
        "archive.extractall(folder)",
        "archive.extract('x')",
        "shutil.unpack_archive(path)",
    ],
)
def test_the_search_below_finds(hostile: str) -> None:
    assert list(findings(hostile))


def test_nothing_is_unpickled_and_nothing_unpacked_to_disk() -> None:
    files = [path for folder in ("pipeline", "docs", "deploy") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = {str(path.relative_to(ROOT)): names for path in files if (names := list(findings(path.read_text("utf-8"))))}
    assert found == {}
