"""Everything that is asked of one engine, and compared with what another one answers."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.dataset import Dataset
from pipeline.errors import PipelineError, RequestError, ServerError
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, OPTIMISATIONS
from pipeline.verify import cases, checks
from pipeline.verify.cases import Batch
from pipeline.verify.declared import check_contract
from pipeline.verify.engines import EndpointEngine, Engine
from pipeline.verify.named import CANDIDATE, EVALUATOR, REFERENCE, SESSIONS, Engines, is_live, tolerance
from pipeline.verify.parity_report import Check
from pipeline.verify.placement import placement, profile
from pipeline.verify.wanted import Wanted

SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Pair:
    """Two engines by name: one that is asked, and one whose answers it must give."""

    candidate: str
    against: str = REFERENCE

    def __str__(self) -> str:
        return self.candidate if self.against == REFERENCE else f"{self.candidate} against {self.against}"

    @property
    def names(self) -> tuple[str, str]:
        """Both names."""
        return self.candidate, self.against


@dataclass(frozen=True)
class Subject:
    """What is verified: a run, its data, the engines that answer for it, and which checks were asked for."""

    run: RunDirectory
    reference: Reference
    dataset: Dataset
    engines: Engines
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def interface(self) -> str:
        """``text`` or ``features``."""
        return self.reference.signature.interface

    @property
    def largest(self) -> int:
        """The most rows of a batch."""
        return self.reference.recipe.publish.max_batch_size

    def sample(self) -> Batch:
        """Return some validation rows and the longest row there can be, together."""
        return cases.sample_batch(self.reference, self.dataset, SAMPLE_ROWS)


def pair_checks(subject: Subject, pair: Pair) -> Iterator[Check]:
    """Yield a pair's checks, under its name.

    An engine that does not load fails one check, named ``load``; one that cannot answer fails one more, named
    ``answers``, and is asked nothing else.

    Raises:
        ServerError: a server is gone, which says nothing about its answers.
    """
    name = "load"
    try:
        reference, candidate = subject.engines.named(pair.against), subject.engines.named(pair.candidate)
        name = "answers"
        for check in _checks(subject, pair, reference, candidate):
            yield replace(check, engine=str(pair))
    except PipelineError as error:
        if isinstance(error, ServerError) and not isinstance(error, RequestError):
            raise
        yield Check(str(pair), name, False, str(error))


def _checks(subject: Subject, pair: Pair, reference: Engine, candidate: Engine) -> Iterator[Check]:
    for engine in (candidate, reference):
        if isinstance(engine, EndpointEngine):
            contract = check_contract(engine.name, engine.client.contract(), subject.reference.signature)
            yield contract
            if not contract.passed:
                return
    for name, batches in _questions(subject, pair).items():
        if subject.wanted.is_asked(name):  # a question not asked for costs nothing
            yield checks.parity(name, reference, candidate, batches, tolerance(*pair.names))
    if EVALUATOR in pair.names:
        return
    yield from _company_checks(subject, candidate)
    if pair.against == REFERENCE and pair.candidate in (CANDIDATE, "cuda"):
        yield from _setting_checks(subject, pair.candidate)
    settings = SESSIONS.get(pair.candidate, SESSIONS[CANDIDATE])
    if settings["provider"] != CPU:
        events = profile(subject.run / "model.onnx", subject.sample().rows, settings)
        yield placement(pair.candidate, settings["provider"], events)


def _questions(subject: Subject, pair: Pair) -> dict[str, Iterable[Batch]]:
    if EVALUATOR in pair.names:
        return {"small grid": cases.grid(subject.reference, subject.dataset, is_small=True)}
    questions: dict[str, Iterable[Batch]] = {
        "grid": cases.grid(subject.reference, subject.dataset),
        "held-out rows": cases.held_out(subject.dataset, subject.interface, subject.largest),
    }
    if subject.interface == "text":
        questions |= {
            "vocabulary": cases.vocabulary(subject.reference),
            "hostile texts": cases.hostile_texts(),
            "drawn texts": cases.drawn_texts(),
        }
    elif not any(map(is_live, pair.names)):  # the client refuses such frames itself
        questions["hostile numbers"] = cases.hostile_frames(subject.reference.signature.feature_size or 0)
    return questions


def _company_checks(subject: Subject, candidate: Engine) -> Iterator[Check]:
    """Check that a row's answer is its own: in company, and beside rows that are not what they should be."""
    rows = cases.sample(subject.dataset, subject.interface, SAMPLE_ROWS)
    longest, is_text = cases.longest_row(subject.reference, subject.dataset), subject.interface == "text"
    yield from checks.batch_invariance(candidate, rows, longest, subject.largest, is_text=is_text)
    if not is_text and not isinstance(candidate, EndpointEngine):
        hostile = [(batch.name, batch.rows[0]) for batch in cases.hostile_frames(rows[0].shape[1])]
        yield checks.hostile_neighbours(candidate, rows, hostile)


def _setting_checks(subject: Subject, name: str) -> Iterator[Check]:
    """Check that neither precision, nor the graph's optimisation, nor the number of threads decides an answer."""
    engines, sample, settings = subject.engines, subject.sample(), SESSIONS[name]
    torch, usual = engines.named(REFERENCE), engines.named(name)
    yield checks.parity("float64", engines.named("pytorch-float64"), usual, [sample], tolerance(name))
    optimised = {level: engines.session(name, **settings, optimisation=level) for level in OPTIMISATIONS}
    yield checks.settings("optimisation", torch, optimised, sample, tolerance(name))
    counts = {f"{count} thread{'s' * (count > 1)}": count for count in sorted({1, 2, os.cpu_count() or 1})}
    threaded = {text: engines.session(name, **settings, threads=count) for text, count in counts.items()}
    yield checks.settings("threads", usual, threaded, sample, checks.INVARIANCE)
