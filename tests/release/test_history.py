"""The history of aliases: what it leaves out, and that nobody has to hold the lock to read it."""

from pathlib import Path
from threading import Event, Thread

from pipeline.release import status
from pipeline.repository.aliases import Aliases
from pipeline.repository.history import Change, came_true, dumps, previous_production, read
from tests.release.conftest import NAME


def promoted(before: int | None, after: int, *, is_rollback: bool = False) -> Change:
    return Change.now("production", before, after, "", is_rollback=is_rollback)


def test_what_was_written_ahead_and_never_happened_is_left_out() -> None:
    done, planned, retired = promoted(None, 1), promoted(1, 2), Change.now("retired", None, 3, "")
    changes = [done, planned, retired]
    assert came_true(changes, {"production": 1, "candidate": None}, (1, 2, 3)) == [done]
    assert came_true(changes, {"production": 2, "candidate": None}, (1, 2)) == changes


def test_a_plan_of_two_aliases_happens_as_far_as_it_went() -> None:
    changes = [Change.now("candidate", None, 2, ""), promoted(1, 2), Change.now("candidate", 2, None, "")]
    assert came_true(changes, {"production": 1, "candidate": 2}, (1, 2)) == changes[:1]
    assert came_true(changes, {"production": 2, "candidate": None}, (1, 2)) == changes


def test_of_equal_changes_it_is_the_last_that_did_not_happen() -> None:
    there, back = promoted(1, 2), promoted(2, 1)  # twice within a second
    changes = [there, back, there]
    assert came_true(changes, {"production": 1, "candidate": None}, (1, 2)) == [there, back]
    assert came_true([there, back, there, back], {"production": 2, "candidate": None}, (1, 2)) == [there, back, there]


def test_a_change_made_by_hand_takes_no_history_away() -> None:
    changes = [promoted(None, 1), promoted(1, 2)]
    assert came_true(changes, {"production": 3, "candidate": None}, (1, 2, 3)) == changes


def test_the_way_back_forgets_what_was_rolled_back_from() -> None:
    changes = [promoted(None, 1), promoted(1, 2), promoted(2, 3)]
    assert previous_production(changes, (1, 2, 3)) == 2
    changes.append(promoted(3, 2, is_rollback=True))
    assert previous_production(changes, (1, 2, 3)) == 1
    changes.append(promoted(2, 1))  # on purpose, not as a rollback
    assert previous_production(changes, (1, 2, 3)) == 2
    assert previous_production(changes, (1, 3)) is None
    assert previous_production([], (1,)) is None


def test_a_history_reads_back_as_it_was_written(tmp_path: Path) -> None:
    reasons = ('said "no", über alles', "two\u2028lines", "\x85", "not UTF-8: \udcff")
    changes = [promoted(None, 1), *(Change.now("candidate", 1, None, reason) for reason in reasons)]
    (tmp_path / "history.jsonl").write_text(dumps(changes))
    assert read(tmp_path) == changes


def test_who_reads_while_others_write_sees_a_whole_state(repository: Path, aliases: Aliases) -> None:
    done, failures = Event(), []

    def change() -> None:
        try:
            for version in (1, 2) * 10:
                with aliases.store.locked():
                    aliases.set_production(NAME, version, "to and fro")
                    aliases.set_candidate(NAME, None if version == 1 else 3, "to and fro")
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            done.set()

    writer = Thread(target=change)
    writer.start()
    seen: list[list[Change]] = []
    while not done.is_set():
        (model,) = status(repository)
        assert model.problems == []
        seen.append(aliases.history(NAME))
    writer.join()
    assert not failures
    history = aliases.history(NAME)
    assert all(changes == history[: len(changes)] for changes in seen)
    assert len({len(changes) for changes in seen}) > 2
    assert [change.reason for change in history].count("to and fro") == 40
