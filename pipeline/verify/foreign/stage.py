"""Verify someone else's model: an ONNX file against whatever it was made from."""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline import __version__
from pipeline.errors import PipelineError, UsageError
from pipeline.files import sha256_of, write_json
from pipeline.runtime import open_session
from pipeline.verify.compare import Tolerance
from pipeline.verify.foreign import draw
from pipeline.verify.foreign.checks import company, parity, repeatability
from pipeline.verify.foreign.draw import Case
from pipeline.verify.foreign.fitting import declared_checks
from pipeline.verify.foreign.references import NamedModel, OnnxModel, open_reference
from pipeline.verify.foreign.spec import ModelSpec, read_graph, read_signature, with_batch
from pipeline.verify.named import SESSIONS
from pipeline.verify.parity_report import Check

TOLERANCE = Tolerance(1e-5)
COMPANY_ROWS = 16


@dataclass(frozen=True)
class ModelReport:
    """The outcome of verifying a model against a reference.

    Attributes:
        model: the ONNX file.
        reference: what it was compared with.
        hashes: SHA-256 of every file that was read, but for the reference's code.
        versions: of the packages that computed.
        signature: the inputs and outputs it was held to.
        sizes: what each dynamic axis was tried at; empty where nothing was drawn.
        seed: of what was drawn.
        tolerance: absolute and relative.
        checks: in the order they were made.
    """

    model: str
    reference: str
    hashes: dict[str, str]
    versions: dict[str, str]
    signature: ModelSpec
    sizes: dict[str, tuple[int, ...]]
    seed: int
    tolerance: Tolerance
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether there were checks and every one held."""
        return bool(self.checks) and not self.failures

    @property
    def failures(self) -> list[str]:
        """The names of the checks that failed."""
        return [f"{check.engine} {check.name}" for check in self.checks if not check.passed]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {"format": 1, "passed": self.passed, **asdict(self)})


def verify_model(
    model: Path,
    reference: str,
    *,
    signature: Path | None = None,
    rows: Path | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    tolerance: Tolerance = TOLERANCE,
    engines: tuple[str, ...] = (),
    output: Path | None = None,
    progress: Callable[[Check], None] = lambda _: None,
) -> ModelReport:
    """Compare an ONNX model with what it was made from, at every size of its axes, and write a record.

    Args:
        model: the ONNX file.
        reference: another ONNX file, or ``package.module:attribute``; see `open_reference`.
        signature: what the model must take and give, in the form of ``signature.json``; by default what an ONNX
            reference declares, else what the model does.
        rows: an ``.npz`` of real inputs, an array for each, that lie along the batch axis.
        sizes: what dynamic axes are tried at, instead of 1, 2, 7 and 64.
        tolerance: what two numbers may be apart.
        engines: what else than ``cpu`` runs the model: ``cuda``, ``cpu-none`` and the others of `SESSIONS`.
        output: the record; beside the model by default, ``model.parity.json``.
        progress: called with every check as it is made.

    Raises:
        UsageError: a file, a reference, an axis or an engine is not there, or nothing says what numbers to draw.
        PipelineError: a file is damaged, or the reference raised; no record is written.
    """
    for name in engines:
        if name not in SESSIONS:
            raise UsageError(f"{name}: no engine that runs any model; there are {', '.join(SESSIONS)}.")
    graph, files = read_graph(model)
    theirs, source = graph, "the graph itself"
    if reference.endswith(".onnx"):
        theirs, their_files = read_graph(Path(reference))
        files, source = files + their_files, reference
    wanted = read_signature(signature) if signature else with_batch(theirs)
    checks: list[Check] = []

    def note(made: Iterable[Check]) -> None:
        for check in made:
            checks.append(check)
            progress(check)

    note(declared_checks(graph, wanted, str(signature or source), is_signed=signature is not None))
    asked = None
    if all(check.passed for check in checks):
        asked = _Questions.about(wanted, rows, sizes or {})
        note(_answer_checks(model, open_reference(reference, wanted), asked, tolerance, engines))
    report = ModelReport(
        model=str(model),
        reference=reference,
        hashes={str(path): sha256_of(path) for path in (*files, *filter(None, (signature, rows)))},
        versions=_versions(),
        signature=wanted,
        sizes=asked.sizes if asked else {},
        seed=draw.SEED,
        tolerance=tolerance,
        checks=tuple(checks),
    )
    report.save(output or model.with_suffix(".parity.json"))
    return report


@dataclass(frozen=True)
class _Questions:
    """What a model is asked.

    Attributes:
        spec: its inputs and outputs.
        sizes: what each axis is drawn at.
        is_drawn: whether inputs are drawn at all.
        rows: given arrays.
    """

    spec: ModelSpec
    sizes: dict[str, tuple[int, ...]]
    is_drawn: bool
    rows: dict[str, np.ndarray] | None

    @classmethod
    def about(cls, spec: ModelSpec, rows: Path | None, sizes: Mapping[str, Sequence[int]]) -> "_Questions":
        """Read the given rows, and decide what is drawn.

        Raises:
            UsageError: there are no rows, and nothing says what numbers to draw.
        """
        unbounded = draw.unbounded(spec)
        if unbounded and (sizes or not rows):
            raise UsageError(
                f"{', '.join(unbounded)}: whole numbers; say their least and most (number or axis) in --signature, "
                "or give --inputs."
            )
        given = draw.read_rows(rows, spec) if rows else None
        return cls(spec, {} if unbounded else draw.sizes_of(spec, sizes), not unbounded, given)

    def company(self) -> Case | None:
        """Return at most 16 rows, given or drawn, with the other axes at their largest; None for fewer than two."""
        axis = self.spec.batch_axis
        if axis is None:
            return None
        if self.rows is not None:
            count = draw.count_of(self.spec, self.rows)
            some = np.unique(np.linspace(0, count - 1, COMPANY_ROWS).astype(int))
            return Case("some given rows", draw.take(self.spec.inputs, axis, self.rows, some)) if count > 1 else None
        largest = {name: tried[-1] for name, tried in self.sizes.items()}
        largest[axis] = min(largest[axis], COMPANY_ROWS)
        return draw.draw(self.spec, largest) if largest[axis] > 1 else None


def _answer_checks(
    model: Path, reference: NamedModel, asked: _Questions, tolerance: Tolerance, engines: tuple[str, ...]
) -> Iterator[Check]:
    for name in dict.fromkeys(("cpu", *engines)):
        try:
            candidate = OnnxModel(name, open_session(model, **SESSIONS[name]), asked.spec)
        except PipelineError as error:
            yield Check(name, "load", False, str(error))
            continue
        yield from _engine_checks(candidate, reference, asked, tolerance)


def _engine_checks(
    candidate: NamedModel, reference: NamedModel, asked: _Questions, tolerance: Tolerance
) -> Iterator[Check]:
    spec, cases = asked.spec, {}
    if asked.is_drawn:
        cases["drawn"] = draw.drawn(spec, asked.sizes)
    if asked.rows is not None:
        cases["given"] = draw.cut(spec, asked.rows)
    for kind, these in cases.items():
        made = list(parity(kind, reference, candidate, these, spec, tolerance))
        yield from made
        if not all(check.passed for check in made if check.name in (f"{kind} answers", f"{kind} shapes")):
            return  # what cannot be asked alone cannot be asked in company
    some = asked.company()
    if some is not None and spec.batch_axis is not None:
        try:
            yield repeatability(candidate, some)
            yield from company(candidate, some, spec, spec.batch_axis, tolerance)
        except PipelineError as error:
            yield Check(candidate.name, "company", False, str(error))


def _versions() -> dict[str, str]:
    return {
        "pipeline": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        **{name: version(name) for name in ("torch", "onnx", "numpy")},
    }
