"""The tune stage: a verified run and texts in, a patch to ``config.pbtxt`` out, with the study that led to it."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

from pipeline import gate, recipe
from pipeline.cache import locked
from pipeline.errors import CheckFailed, PipelineError, UsageError
from pipeline.files import sha256_of, write_json, write_text
from pipeline.gate import PRECISIONS
from pipeline.repository.config import MODEL_FILE
from pipeline.repository.goldens import FULL_PRECISION
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, has_cuda_driver
from pipeline.triton import find_triton
from pipeline.tune.page import page_of
from pipeline.tune.record import Contender, Tuned
from pipeline.tune.search import Kind, Measure, Result, search
from pipeline.tune.served import Bounds, Task, expected_labels
from pipeline.tune.space import Candidate, Space
from pipeline.tune.study import Study, Trial
from pipeline.tune.trial import make

PATCH, RECORD, STUDY, PAGE = "tuned.pbtxt", "tune.json", "tune.jsonl", "tune.html"


def tune(
    run: RunDirectory,
    texts: Sequence[bytes],
    bounds: Bounds,
    *,
    trials: int = 32,
    seconds: float = 2.0,
    drawn: int = 0,
    told: Callable[[Trial], None] = lambda _: None,
) -> Tuned:
    """Search how a verified run is served best, and leave ``tuned.pbtxt``, ``tune.json`` and ``tune.html`` in it.

    Every trial is a line of ``tune.jsonl``: a search that was cut short is gone on with by asking for it again. What
    was found is measured again at the end, side by side with the recipe's own configuration and the best random one.

    Args:
        run: a verified run of a text model.
        texts: what callers ask with.
        bounds: what must be kept.
        trials: of the search, at most; one of several candidates counts for each. The random ones and the last, at
            the end, come on top.
        seconds: of each rate that is tried; twice as long in a long trial.
        drawn: try so many random configurations as well, to compare with.
        told: told of each trial.

    Raises:
        CheckFailed: the run is not verified as it is, or nothing that was tried keeps the bounds.
        UsageError: it is no text model, the study is of another question, or LoadGen is not installed.
        PipelineError: there is no Triton, another search is at it, or a file cannot be read or written.
    """
    if run.info["interface"] != "text":
        raise UsageError(f"{run.path}: its model takes frames; `pipeline tune` asks with texts.")
    find_triton()
    space = space_of(run)
    expected = cache(lambda variant: expected_labels(run, variant, texts))  # a finished study asks for none
    question = _question(run, space, texts, bounds, seconds)
    task = Task(run, texts, expected, bounds, seconds)
    with _alone(run):
        study = Study.opened(run / STUDY, question, told)

        def measure(kind: Kind, candidates: Sequence[Candidate]) -> Sequence[Result]:
            return study.measured(kind, candidates, partial(make, task))

        try:
            found = search(space, trials, measure)
        except CheckFailed:
            for name in (PATCH, RECORD, PAGE):  # what an earlier search came to, of other bounds perhaps
                (run / name).unlink(missing_ok=True)
            raise
        searched = sum(len(trial.candidates) for trial in study.asked.values())
        random = _best_of(space.drawn(drawn), measure)
        last = list(dict.fromkeys([found.candidate, space.start, *random]))
        confirmed = dict(zip(last, measure("confirm", last), strict=True))
        tuned = Tuned(
            question,
            len(space),
            searched,
            predicted=found.times,
            found=Contender(found.candidate, confirmed[found.candidate]),
            start=Contender(space.start, confirmed[space.start]),
            random=Contender(random[0], confirmed[random[0]]) if random else None,
            drawn=len(space.drawn(drawn)),
            trials=tuple(study.asked.values()),
        )
        write(run, tuned)
    return tuned


@contextlib.contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    """Keep a second search out: it would write the same study, and each would measure the other's load."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked("tune", run.path, fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise PipelineError(f"{run.path}: another `pipeline tune` is at it now.") from error
        yield


def space_of(run: RunDirectory) -> Space:
    """Return what can be tried with a run on this machine: a variant without its provider would be slow, not lower.

    Raises:
        CheckFailed: a variant that would be tried is not verified as it is.
    """
    keys = recipe.load(str(run.require("recipe.toml"))).publish
    kept = [record["name"] for record in gate.kept(run)]
    variants = [name for name in kept if PRECISIONS[name].provider == CPU or has_cuda_driver()]
    for variant in (None, *variants):
        gate.require_verified(run, variant)
    start = Candidate(FULL_PRECISION, keys.instances, keys.threads, keys.max_queue_delay_microseconds)
    return Space(start, (FULL_PRECISION, *variants), len(os.sched_getaffinity(0)), keys.max_batch_size)


def _question(
    run: RunDirectory, space: Space, texts: Sequence[bytes], bounds: Bounds, seconds: float
) -> dict[str, object]:
    """Return what would make the trials others if it were another."""
    files = {name: PRECISIONS[name].file if name in PRECISIONS else MODEL_FILE for name in space.variants}
    return {
        "models": {name: sha256_of(run.require(file)) for name, file in files.items()},
        "texts": hashlib.sha256(b"\0".join(texts)).hexdigest(),
        "p99_ms": bounds.p99_ms,
        "max_memory_mb": bounds.max_memory_mb,
        "rate": bounds.rate,
        "seconds": seconds,
        "max_batch_size": space.max_batch_size,
        "cores": space.cores,
    }


def _best_of(candidates: Sequence[Candidate], measure: Measure) -> list[Candidate]:
    """Measure each as the search measures its own, and return the best; nothing of nothing."""
    ranks = {candidate: measure("long", [candidate])[0].rank for candidate in candidates}
    return sorted(ranks, key=ranks.__getitem__)[-1:]


def write(run: RunDirectory, tuned: Tuned) -> None:
    """Write what tuning came to; the patch only where what was found kept the bounds to the end.

    Raises:
        CheckFailed: it did not.
    """
    (run / PATCH).unlink(missing_ok=True)  # first: beside a new record, an earlier patch would be believed
    write_json(run / RECORD, tuned.as_json())
    write_text(run / PAGE, page_of(run, tuned))
    if reason := tuned.found.result.reason:
        raise CheckFailed(
            f"{run / RECORD}: {tuned.found.candidate} did not keep the bounds a second time: {reason}. "
            f"Loosen them, or move {run / STUDY} away and search again on a quieter machine."
        )
    write_text(run / PATCH, f"# {tuned.goal}\n{tuned.found.candidate.patch()}")
