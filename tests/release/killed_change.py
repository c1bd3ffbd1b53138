"""Make one change of a repository in children that are killed with SIGKILL, each one step later than the one before.

    python -m tests.release.killed_change OPERATION REPOSITORY RUN

A step is a call that changes the file system: a child dies instead of making it. After each death the repository must
be what it was or what it is to become, for Triton, for `status` and in its history, and must take the change again, or
the next one. Prints the number of deaths: the last child makes all steps and lives.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.files import sha256_of
from pipeline.publish import publish
from pipeline.release import promote, retire, rollback, status
from pipeline.repository import config, versions_of
from pipeline.repository.aliases import Aliases
from pipeline.repository.transaction import LOCK_FILE, Repository
from pipeline.run_directory import RunDirectory

NAME = "opinions"
MEMORY = Path("/dev/shm")  # noqa: S108 - where syncing, a step as others are, costs no time
STEPS = ("os.rename", "os.link", "os.mkdir", "os.rmdir", "os.remove", "os.chmod")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Change = Callable[[Path, RunDirectory], object]


def withdraw(repository: Path, run: RunDirectory) -> None:
    store = Repository(repository)
    with store.locked():
        Aliases(store).set_candidate(NAME, None, "withdrawn")


def leave(repository: Path) -> None:
    """Change nothing, after what was left of an earlier change was tidied up."""
    store, aliases = Repository(repository), Aliases(Repository(repository))
    with store.locked():
        aliases.set_candidate(NAME, aliases.candidate(NAME), "as it is")


OPERATIONS: dict[str, Change] = {
    "publish": lambda repository, run: publish(run, repository),
    "publish_a_candidate": lambda repository, run: publish(run, repository, alias="candidate"),
    "promote": lambda repository, _: promote(repository, NAME),
    "promote_a_version": lambda repository, _: promote(repository, NAME, 1),
    "rollback": lambda repository, _: rollback(repository, NAME),
    "retire": lambda repository, _: retire(repository, NAME, 1),
    "withdraw": withdraw,
}


def read_by_triton(repository: Path) -> dict[str, object]:
    """Return the model file, by its hash, and the labels that each model folder is served from."""
    served: dict[str, object] = {}
    for path in sorted(repository.glob("*/config.pbtxt")):
        read = config.loads(path.read_text())
        assert read.name == path.parent.name
        version = max(read.version_policy.specific.versions or versions_of(path.parent))
        model = path.parent / str(version) / read.default_model_filename
        served[path.parent.name] = (sha256_of(model), (path.parent / "labels.txt").read_text())
    candidate = served.get(f"{NAME}.candidate")
    if candidate and Aliases(Repository(repository)).candidate(NAME) is None:
        assert candidate == served[NAME]  # it became production, and its folder is still to go
        del served[f"{NAME}.candidate"]
    return served


def look(repository: Path) -> tuple[object, ...]:
    """Return what is served and what the history tells, and require that `status` finds nothing wrong."""
    if not repository.exists():
        return ({}, [])
    problems = [problem for model in status(repository) for problem in model.problems]
    assert not problems, problems
    changes = Aliases(Repository(repository)).history(NAME)
    told = [(change.alias, change.before is None, change.after is None, change.reason) for change in changes]
    return (read_by_triton(repository), told)


def in_child(change: Callable[[], object], steps: float = float("inf")) -> bool:
    """Make a change in a child that dies before its next step after some; return whether it died."""
    pid = os.fork()
    if not pid:
        try:
            _die_after(steps)
            change()
        except BaseException as error:  # noqa: BLE001 - told by the exit code
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, ended = os.waitpid(pid, 0)
    assert ended in (0, signal.SIGKILL), ended
    return ended == signal.SIGKILL


def _die_after(steps: float) -> None:
    made = 0

    def step() -> None:
        nonlocal made
        made += 1
        if made > steps:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(event: str, arguments: tuple) -> None:
        if event in STEPS or (event == "open" and arguments[2] & WRITES):
            step()

    fsync = os.fsync

    def counted(descriptor: int) -> None:
        step()
        fsync(descriptor)

    os.fsync = counted
    sys.addaudithook(trace)


def main(operation: str, base: Path, run: RunDirectory) -> None:
    change, deaths, died = OPERATIONS[operation], 0, True
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        done, repository = Path(folder) / "done", Path(folder) / "killed" / "repository"
        fresh(base, done)
        assert not in_child(lambda: change(done, run))
        before, after = look(base), look(done)
        assert before != after
        while died:
            fresh(base, repository)
            died = in_child(lambda: change(repository, run), deaths)
            deaths += died
            seen = look(repository)
            assert seen in (before, after), (deaths, seen)
            assert died or seen == after
            assert not in_child(lambda: change(repository, run) if seen == before else leave(repository))  # noqa: B023
            assert look(repository) == after, deaths
            left = {path.name for path in repository.iterdir()} - {LOCK_FILE}
            assert left == {NAME, *after[0]}, left
            assert [path.name for path in repository.parent.iterdir()] == ["repository"]
    sys.stdout.write(f"{deaths}\n")


def fresh(base: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    if base.exists():
        shutil.copytree(base, path)
    else:
        path.parent.mkdir(exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), RunDirectory.open(Path(sys.argv[3])))
