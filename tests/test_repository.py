"""A model repository on disk: what counts as a version, and whose staging folders are whose."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pipeline.errors import RepositoryError
from pipeline.repository import scan, versions_of
from pipeline.repository.transaction import Repository


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of two versions, among names that only look like versions."""
    folder = tmp_path / "repository" / "words"
    for name in ("2", "10", "007", "0", "²", "1.5", ".staging-3", "-4"):
        (folder / name).mkdir(parents=True)
    (folder / "5").write_text("a file")
    (folder / "config.pbtxt").touch()
    return folder


def test_a_version_is_a_folder_named_by_a_number_for_publish_and_serve_alike(model: Path) -> None:
    assert versions_of(model) == (2, 10)
    assert Repository(model.parent).versions("words") == [2, 10]
    assert scan(model.parent)["words"].versions == (2, 10)


def test_a_model_that_is_not_there_has_no_versions(model: Path) -> None:
    assert Repository(model.parent).versions("other") == []
    assert scan(model.parent, only=("other",)) == {}


def test_what_is_not_a_model_is_passed_over(model: Path) -> None:
    (model.parent / "README.md").touch()
    (model.parent / "empty").mkdir()
    (model.parent / "unconfigured" / "1").mkdir(parents=True)
    (model.parent / ".hidden").symlink_to(model)
    assert scan(model.parent).keys() == {"words"}


def test_a_repository_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"nowhere: cannot be read: No such file or directory\."):
        scan(tmp_path / "nowhere")


def test_a_publisher_sweeps_up_after_its_own_repository_only(tmp_path: Path) -> None:
    sibling = Repository(tmp_path / "a-b")
    killed = tmp_path / ".staging-a-abcd_123"
    killed.mkdir()
    with sibling.locked(), sibling.staging() as running:
        with Repository(tmp_path / "a").locked():
            assert not killed.exists()
        assert running.is_dir()


def test_a_name_with_the_marks_of_a_pattern_stands_for_itself(tmp_path: Path) -> None:
    other, own = tmp_path / ".staging-axb-abcd_123", tmp_path / ".staging-a.b-abcd_123"
    other.mkdir()
    own.mkdir()
    with Repository(tmp_path / "a.b").locked():
        assert (other.exists(), own.exists()) == (True, False)


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)  # none is at hand
    with pytest.raises(RepositoryError, match=r"cannot be locked: No locks available\. Use a"):
        Repository(tmp_path).locked().__enter__()


def test_a_replaced_file_can_be_read_by_another_user_and_leaves_nothing_staged(model: Path, tmp_path: Path) -> None:
    staged, target = tmp_path / "config.pbtxt", model / "config.pbtxt"
    staged.write_text("new")
    staged.chmod(0o600)
    Repository(model.parent).replace_file(staged, target)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o644)
    assert not staged.exists()
