"""What tuning came to: the front, the verdict, the page, and the patch that is written or not."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import locked
from pipeline.commands.tune import table
from pipeline.errors import CheckFailed, PipelineError
from pipeline.repository.config import dumps
from pipeline.repository.patch import read_patch
from pipeline.run_directory import RunDirectory
from pipeline.tune import Bounds, stage
from pipeline.tune.page import page_of
from pipeline.tune.record import Contender, Tuned, front
from pipeline.tune.search import Kind, Result
from pipeline.tune.space import Candidate
from pipeline.tune.stage import write
from pipeline.tune.study import Trial

FOUND, START, OTHER = (Candidate("int8", 2, 1, 1000), Candidate("fp32", 2, 1), Candidate("fp32", 1, 1, arena=False))
QUESTION = {"p99_ms": 50.0, "rate": None, "max_memory_mb": 1024.0}


def trial(candidate: Candidate, rate: float, memory_mb: float, reason: str = "", kind: Kind = "long") -> Trial:
    return Trial(kind, (candidate,), (Result(rate, rate, 40.0, memory_mb, reason),))


def contender(candidate: Candidate, rate: float, reason: str = "") -> Contender:
    return Contender(candidate, Result(rate, rate, 40.0, 300.0, reason))


def tuned(rate: float = 1000, predicted: float | None = 2.0, reason: str = "") -> Tuned:
    trials = (trial(FOUND, 1000, 300), trial(START, 500, 400), trial(OTHER, 400, 100), trial(START, 510, 400))
    found, start, random = contender(FOUND, rate, reason), contender(START, 500), contender(OTHER, 400)
    return Tuned(QUESTION, 400, 32, predicted, found, start, random, 20, trials)


def test_the_front_is_what_no_other_beats_in_both() -> None:
    assert [candidate for candidate, _ in front(tuned().trials)] == [OTHER, FOUND]


def test_what_was_ever_faulty_is_not_on_the_front() -> None:
    trials = (trial(FOUND, 1000, 300, "1 answer wrong", "short"), trial(FOUND, 1000, 300), trial(OTHER, 400, 100))
    assert [candidate for candidate, _ in front(trials)] == [OTHER]


@pytest.mark.parametrize(("rate", "holds"), [(1145, True), (855, True), (840, False), (1160, False)])
def test_a_prediction_of_the_ratio_holds_within_fifteen_percent(rate: float, holds: bool) -> None:
    result = tuned(rate)
    assert result.holds is holds
    assert result.as_json()["holds"] is holds
    assert ("it holds" in table(result)) == holds
    assert f"predicted 2.00 times the recipe's, the second run is {rate / 1000 - 1:+.1%} off" in table(result)


def test_what_was_found_is_held_against_the_recipe_and_the_best_of_the_random_ones(verified_run: RunDirectory) -> None:
    result = tuned()
    assert "found is 2.00 times the recipe's and 2.50 times the best of 20 random ones, after 32 trials" in table(
        result
    )
    page = page_of(verified_run, result)
    for words in ("Tuned", "2.00 ×", "2.50 ×", "the highest rate, p99 within 50 ms, within 1,024 MB", "<svg"):
        assert words in page


def test_what_may_not_be_served_is_no_measure(verified_run: RunDirectory) -> None:
    result = replace(tuned(predicted=None), start=contender(START, 0, "cannot be served: out of memory"), random=None)
    assert "found is alone in keeping the bounds, after 32 trials" in table(result)
    assert "no prediction: the recipe's own configuration does not keep the bounds" in table(result)
    assert result.holds is None
    assert "cannot be served: out of memory" in page_of(verified_run, result)


def test_the_patch_is_the_one_that_was_found(verified_run: RunDirectory, copy_of) -> None:
    run = copy_of(verified_run)
    write(run, tuned())
    assert dumps(read_patch(run / "tuned.pbtxt")) == FOUND.patch()


def test_a_search_that_finds_nothing_leaves_nothing_of_an_earlier_one(
    verified_run: RunDirectory, copy_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        raise CheckFailed("nothing that was tried may be served")

    run = copy_of(verified_run)
    for name in ("tuned.pbtxt", "tune.json", "tune.html"):
        (run / name).write_text("of an earlier search")
    monkeypatch.setattr(stage, "find_triton", lambda: None)
    monkeypatch.setattr(stage, "search", nothing)
    with pytest.raises(CheckFailed, match="nothing that was tried"):
        stage.tune(run, [b"good"], Bounds(50.0))
    assert [path.name for path in run.path.glob("tune*")] == ["tune.jsonl"]


def test_two_searches_at_once_are_refused(verified_run: RunDirectory, copy_of, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy_of(verified_run)
    monkeypatch.setattr(stage, "find_triton", lambda: None)
    with locked("tune", run.path), pytest.raises(PipelineError, match="another `pipeline tune` is at it now"):
        stage.tune(run, [b"good"], Bounds(50.0))
    assert not (run / "tune.jsonl").exists()


def test_what_does_not_keep_the_bounds_to_the_end_is_no_patch(
    verified_run: RunDirectory, copy_of, tmp_path: Path
) -> None:
    run = copy_of(verified_run)
    (run / "tuned.pbtxt").write_text("# of an earlier search")
    faulty = tuned(reason="1 of 9 answers wrong")
    with pytest.raises(CheckFailed, match="did not keep the bounds a second time: 1 of 9 answers wrong"):
        write(run, faulty)
    assert not (run / "tuned.pbtxt").exists()
    assert "Did not hold" in (run / "tune.html").read_text()
    trials = (replace(one, results=(replace(one.results[0], reason="x"),)) for one in faulty.trials)
    assert front(tuple(trials)) == []
