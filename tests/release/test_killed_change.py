"""A command that is killed, at whichever step, leaves the old state or the new one."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run_directory import RunDirectory
from tests.release.killed_change import OPERATIONS

pytestmark = pytest.mark.long


def deaths(operation: str, repository: Path, run: RunDirectory) -> int:
    command = [sys.executable, "-m", "tests.release.killed_change", operation, str(repository), str(run.path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"publish"}))
def test_a_change_killed_at_any_step_leaves_the_old_state_or_the_new(
    operation: str, repository: Path, other_run: RunDirectory
) -> None:
    assert deaths(operation, repository, other_run) >= 10


def test_a_version_published_over_another_and_killed_at_any_step_answers_or_does_not(
    repository: Path, verified_run: RunDirectory
) -> None:
    assert deaths("publish", repository, verified_run) >= 20


@pytest.mark.parametrize("operation", ["publish", "publish_a_candidate"])
def test_the_first_version_killed_at_any_step_is_served_or_not(
    operation: str, verified_run: RunDirectory, tmp_path: Path
) -> None:
    assert deaths(operation, tmp_path / "nowhere", verified_run) >= 20


@pytest.mark.parametrize("operation", ["publish", "publish_a_candidate"])
def test_a_repository_from_before_aliases_is_not_changed_by_half(
    operation: str, older: Path, other_run: RunDirectory
) -> None:
    assert deaths(operation, older, other_run) >= 20
