"""The search on planted responses: what it finds, with how many trials, and what it does after an interruption."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CheckFailed, RunError, UsageError
from pipeline.tune.search import Kind, Result, search
from pipeline.tune.space import Candidate, Space
from pipeline.tune.study import Study, Trial

SPACE = Space(Candidate("fp32", 2, 1), ("fp32", "int8"), cores=4, max_batch_size=64)
BEST = Candidate("int8", 4, 1, 1000, (16,), arena=False)
QUESTION = {"p99_ms": 50.0, "cores": 4}
MOVED = 0.02


class Interrupted(Exception):
    """Ctrl-C, at a chosen trial."""


def planted(candidate: Candidate, kind: Kind = "long") -> Result:
    """A response with one hill, its top at BEST, and noise that is smaller in longer trials."""
    distance = (
        2 * (candidate.variant != BEST.variant)
        + abs(math.log2(candidate.instances / BEST.instances))
        + abs(math.log2(candidate.threads / BEST.threads))
        + abs(candidate.delay_microseconds - BEST.delay_microseconds) / 2000
        + abs(sum(candidate.preferred) - 16) / 64
        + 0.3 * (candidate.arena != BEST.arena)
    )
    noise = random.Random(f"{candidate} {kind}").gauss(0, 0.02 if kind == "short" else 0.005)  # noqa: S311
    value = 1000 * math.exp(-0.3 * distance) * (1 + noise)
    return Result(value, value, 40.0, 100.0 * candidate.instances * (2 if candidate.arena else 1))


def untold(trial: Trial) -> None:
    """Tell nobody."""


def each(measure: Callable[[Candidate, Kind], Result]) -> Callable[[Kind, Sequence[Candidate]], list[Result]]:
    """Measure side by side what does not depend on its company."""
    return lambda kind, candidates: [measure(candidate, kind) for candidate in candidates]


def counted(made: list[tuple[Candidate, Kind]]) -> Callable[[Kind, Sequence[Candidate]], list[Result]]:
    def count(candidate: Candidate, kind: Kind) -> Result:
        made.append((candidate, kind))
        return planted(candidate, kind)

    return each(count)


def test_the_planted_optimum_is_found_with_a_fraction_of_the_grid() -> None:
    made: list[tuple[Candidate, Kind]] = []
    found = search(SPACE, 60, counted(made))
    assert found.candidate == BEST
    assert found.times == pytest.approx(1000 / planted(SPACE.start).value, rel=MOVED)
    assert len(made) == len(set(made)) <= 60 < len(SPACE) / 10


def test_a_small_budget_is_at_least_as_good_as_twenty_random_points() -> None:
    found = search(SPACE, 32, each(planted))
    assert planted(found.candidate).value >= max(planted(point).value for point in SPACE.drawn(20))


@pytest.mark.parametrize("budget", [3, 4, 5, 7, 32])
def test_no_budget_is_overdrawn(budget: int) -> None:
    made: list[tuple[Candidate, Kind]] = []
    search(SPACE, budget, counted(made))
    assert 0 < len(made) <= budget


def test_a_small_space_is_searched_to_its_end() -> None:
    made: list[tuple[Candidate, Kind]] = []
    space = Space(Candidate("fp32", 1, 1), ("fp32",), cores=1, max_batch_size=8)
    search(space, 500, counted(made))
    assert {candidate for candidate, kind in made if kind == "long"} == set(space)


def test_a_machine_that_slows_down_meanwhile_does_not_change_the_prediction() -> None:
    def slowed(kind: Kind, candidates: Sequence[Candidate]) -> list[Result]:
        speed = 0.5 if kind == "final" else 1.0
        return [replace(planted(one, kind), value=speed * planted(one, kind).value) for one in candidates]

    assert search(SPACE, 32, slowed) == search(SPACE, 32, each(planted))


def test_where_the_recipe_s_configuration_may_not_be_served_nothing_is_predicted() -> None:
    def measure(candidate: Candidate, kind: Kind) -> Result:
        return Result.unfit("out of memory") if candidate == SPACE.start else planted(candidate, kind)

    found = search(SPACE, 60, each(measure))
    assert (found.candidate, found.times) == (BEST, None)


def test_the_grid_holds_the_coarse_points_and_every_neighbour_of_its_points() -> None:
    space = Space(Candidate("fp32", 2, 1), ("fp32", "int8"), cores=2, max_batch_size=64)
    grid = set(space)
    assert len(grid) == len(space)
    assert set(space.coarse()) <= grid
    assert all(set(space.neighbours(point)) <= grid - {point} for point in grid)


def test_from_a_start_off_the_grid_steps_lead_onto_it() -> None:
    start = Candidate("fp32", 3, 1, 1500, (12,))
    steps = SPACE.neighbours(start)
    assert {step.delay_microseconds for step in steps} >= {1000, 2000}
    assert {step.preferred for step in steps} >= {(8,), (16,)}


@pytest.mark.parametrize("budget", [7, 12])
def test_a_search_that_was_cut_short_at_any_trial_goes_on_as_if_it_had_not_been(budget: int, tmp_path: Path) -> None:
    whole = Study.opened(tmp_path / "whole.jsonl", QUESTION, untold)
    found = search(SPACE, budget, _asking(whole))
    trials = len(whole.made)
    for cut in range(trials):
        path = tmp_path / f"{cut}.jsonl"
        with pytest.raises(Interrupted):
            search(SPACE, budget, _asking(Study.opened(path, QUESTION, untold), cut))
        with path.open("ab") as file:
            file.write(b'{"kind": "short", "candi\xc3')  # and killed while it wrote a line
        made: list[Kind] = []
        again = search(SPACE, budget, _asking(Study.opened(path, QUESTION, untold), made=made))
        assert (again, len(made)) == (found, trials - cut)
        assert path.read_bytes() == whole.path.read_bytes()


def _asking(
    study: Study, cut: int | None = None, made: list[Kind] | None = None
) -> Callable[[Kind, Sequence[Candidate]], Sequence[Result]]:
    count = iter(range(10_000))

    def make(kind: Kind, candidates: Sequence[Candidate]) -> list[Result]:
        if next(count) == cut:
            raise Interrupted
        if made is not None:
            made.append(kind)
        return each(planted)(kind, candidates)

    return lambda kind, candidates: study.measured(kind, candidates, make)


def test_a_finished_study_with_more_trials_makes_only_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    first: list[Trial] = []
    second: list[Trial] = []
    search(SPACE, 16, _asking(Study.opened(path, QUESTION, first.append)))
    search(SPACE, 32, _asking(Study.opened(path, QUESTION, second.append)))
    assert 0 < len(second) < 32
    assert len(set(path.read_text().splitlines()[1:])) == len(first) + len(second)


def test_a_study_of_another_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    Study.opened(path, QUESTION, untold)
    with pytest.raises(UsageError, match=r"study.jsonl: is of another p99_ms: 50.0, now 20.0. .* move it away"):
        Study.opened(path, {**QUESTION, "p99_ms": 20.0}, untold)


@pytest.mark.parametrize("content", ["", "{", "x\n", '{"p99_ms": 50.0, "cores": 4}\n{"candidate": {}}\n', "[1]\n"])
def test_a_study_that_was_edited_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "study.jsonl").write_text(content)
    with pytest.raises(RunError, match=r"study.jsonl: edited .* Move it away"):
        Study.opened(tmp_path / "study.jsonl", QUESTION, untold)


@pytest.mark.parametrize("reason", ["12 wrong answers", "800 MB of memory, allowed 700"])
def test_what_may_not_be_chosen_never_is_however_fast_it_is(reason: str) -> None:
    def measure(candidate: Candidate, kind: Kind) -> Result:
        result = planted(candidate, kind)
        return replace(result, value=9 * result.value, reason=reason) if candidate.variant == "int8" else result

    assert search(SPACE, 32, each(measure)).candidate.variant == "fp32"


def test_a_fault_that_shows_only_side_by_side_counts() -> None:
    first = search(SPACE, 32, each(planted)).candidate

    def measure(candidate: Candidate, kind: Kind) -> Result:
        is_faulty = (candidate, kind) == (first, "final")
        return replace(planted(candidate, kind), reason="1 wrong answer" if is_faulty else "")

    assert search(SPACE, 32, each(measure)).candidate != first


def test_a_fault_that_shows_only_in_a_short_trial_counts() -> None:
    space = Space(Candidate("fp32", 1, 1), ("fp32",), cores=1, max_batch_size=8)

    def measure(candidate: Candidate, kind: Kind) -> Result:
        is_start = candidate == space.start
        reason = "1 wrong answer" if is_start and kind == "short" else ""
        return Result(2.0 if is_start else 1.0, 1.0, 40.0, 100.0, reason)

    assert search(space, 500, each(measure)).candidate != space.start


def test_a_memory_bound_that_no_coarse_point_keeps_leads_to_one_that_does() -> None:
    def measure(candidate: Candidate, kind: Kind) -> Result:
        result = planted(candidate, kind)
        return replace(
            result, reason="too much memory" if result.memory_mb > 150 else "", missed=result.memory_mb / 150
        )

    assert all(measure(point, "short").reason for point in SPACE.coarse())
    assert search(SPACE, 60, each(measure)).candidate == replace(BEST, instances=1)


def test_a_rate_that_no_coarse_point_keeps_up_with_leads_to_one_that_does() -> None:
    def measure(candidate: Candidate, kind: Kind) -> Result:
        result = planted(candidate, kind)  # the better, the more memory
        return replace(result, reason="too late" if result.value < 800 else "", missed=800 / result.value)

    assert all(measure(point, "short").reason for point in SPACE.coarse())
    assert search(SPACE, 60, each(measure)).candidate == BEST


def test_where_nothing_may_be_chosen_the_nearest_is_named() -> None:
    def measure(candidate: Candidate, kind: Kind) -> Result:
        return replace(planted(candidate, kind), reason="100 MB of memory, allowed 1", missed=100.0)

    with pytest.raises(CheckFailed, match=r"nothing that was tried may be served; the nearest, .*: 100 MB"):
        search(SPACE, 10, each(measure))


def test_a_result_is_written_as_json(tmp_path: Path) -> None:
    study = Study.opened(tmp_path / "study.jsonl", QUESTION, untold)
    study.measured("final", [BEST, SPACE.start], lambda *_: [Result.unfit("did not start"), planted(SPACE.start)])
    record = json.loads((tmp_path / "study.jsonl").read_text().splitlines()[1])
    assert (record["kind"], [one["memory_mb"] for one in record["results"]]) == ("final", [None, 400.0])
    assert list(Study.opened(tmp_path / "study.jsonl", QUESTION, untold).made) == [("final", (BEST, SPACE.start))]


def test_the_same_candidate_in_other_company_is_measured_again(tmp_path: Path) -> None:
    study = Study.opened(tmp_path / "study.jsonl", QUESTION, untold)
    study.measured("final", [BEST, SPACE.start], each(planted))
    told = [study.measured("final", company, each(planted)) for company in ([SPACE.start], [BEST, SPACE.start])]
    assert len(study.made) == 2
    assert told[1][1] == told[0][0]
