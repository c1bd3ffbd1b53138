"""Ask every engine every question, and write down the answers."""

import platform
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pipeline import __version__
from pipeline.client import Access
from pipeline.errors import UsageError
from pipeline.files import sha256_of
from pipeline.gate import PRECISIONS
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.signature import Signature
from pipeline.targets import Target, targets_named
from pipeline.verify import cases
from pipeline.verify.declared import check_graph, check_hashes, check_weights
from pipeline.verify.engines import TorchEngine
from pipeline.verify.named import CANDIDATE, REFERENCE, TOLERANCES, Engines, is_live, require_names
from pipeline.verify.pair import Pair, Subject, pair_checks
from pipeline.verify.parity_report import Check, ParityReport
from pipeline.verify.variants import check_variants, variant_files, variant_goldens
from pipeline.verify.wanted import Wanted

GOLDEN_ROWS = 8


def verify(
    run: RunDirectory,
    data: Path | None = None,
    *,
    engines: tuple[str, ...] = (),
    against: str = REFERENCE,
    endpoint_model: str | None = None,
    access: Access | None = None,
    targets: tuple[str, ...] = (),
    only: Collection[str] = (),
    progress: Callable[[Check], None] = lambda _: None,
) -> ParityReport:
    """Compare an exported run with PyTorch, and any engines with any other, and write ``parity.json``.

    The files themselves, and ONNX Runtime on the CPU against PyTorch, are always checked: they alone decide whether the
    run may be published. What is asked for beside them is recorded apart.

    Args:
        run: an exported run.
        data: the data set, where it is no longer in the place it was trained from.
        engines: names of more engines to check; see `named`, or ``grpc://HOST:PORT``, ``http://HOST:PORT``.
        against: the name of the engine that these are compared with.
        endpoint_model: the model's name at an endpoint; the run's own by default.
        access: how the endpoints are reached: TLS, a token.
        targets: names of the Triton releases that must load it; by default every one that is known.
        only: names of the checks to make, all by default; with any, nothing is written and nothing counts as verified.
        progress: called with every check as it is made.

    Raises:
        UsageError: no such engine, one that is to agree with itself, a variant that is no endpoint's reference, no such
            release, or no such check in `only`.
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
        ServerError: an endpoint does not answer, or not for this model; an earlier report is untouched.
    """
    pairs = _pairs(engines, against)
    releases = targets_named(targets)
    reference = Reference.load(run)
    dataset = reference.dataset(data)
    signature = Signature.load(run.require("signature.json"))
    hashes = {
        name: sha256_of(run.require(name))
        for name in (*run.info["hashes"], "model.onnx", "signature.json", *variant_files(run))
    }

    wanted = Wanted(frozenset(only))

    def noted(made: Iterator[Check]) -> tuple[Check, ...]:
        found = []
        for check in filter(wanted.is_shown, made):
            progress(check)
            found.append(check)
        return tuple(found)

    with Engines(run / "model.onnx", reference, endpoint_model or run.info["name"], access) as opened:
        subject = Subject(run, reference, dataset, opened, wanted)
        for name in filter(is_live, (*engines, against)):
            opened.named(name)  # who cannot be reached is not a failed check: nothing is written
        checks_of_files = _file_checks(subject, signature, releases)
        local = noted(chain(checks_of_files, check_variants(run, reference, dataset)))
        others = noted(chain.from_iterable(pair_checks(subject, pair) for pair in pairs if not is_live(pair.candidate)))
        live = noted(chain.from_iterable(pair_checks(subject, pair) for pair in pairs if is_live(pair.candidate)))
    report = ParityReport(
        hashes,
        _versions(),
        {name: allowed.absolute for name, allowed in TOLERANCES.items()},
        local,
        live,
        tuple(_goldens(subject)),
        others,
        variant_goldens(run, dataset, GOLDEN_ROWS),
    )
    if not only:
        report.save(run / "parity.json")
    elif not report.failures:
        wanted.require_met()
    return report


def _pairs(engines: tuple[str, ...], against: str) -> list[Pair]:
    """Return the pairs that were asked for, each once, without the one that is always checked."""
    require_names((*engines, against))
    if against in engines:
        raise UsageError(f"--engine {against} --against {against}: an engine always agrees with itself.")
    asked = engines or ((CANDIDATE,) if against != REFERENCE else ())
    if PRECISIONS.keys() & {*engines, against} and not (against in PRECISIONS and all(map(is_live, asked))):
        raise UsageError(
            "a variant is judged by its gate, without being asked for; an endpoint that serves it is compared with it: "
            "--endpoint HOST:PORT --against int8."
        )
    return [pair for pair in dict.fromkeys(Pair(name, against) for name in asked) if pair != Pair(CANDIDATE)]


def _file_checks(subject: Subject, signature: Signature, targets: tuple[Target, ...]) -> Iterator[Check]:
    yield check_hashes(subject.run, signature)
    graph = check_graph(subject.run, signature, subject.reference, targets)
    yield graph
    if graph.passed:
        yield check_weights(subject.run, subject.reference)
    yield from pair_checks(subject, Pair(CANDIDATE))


def _goldens(subject: Subject) -> Iterator[dict[str, Any]]:
    interface = subject.interface
    rows = cases.sample(subject.dataset, interface, GOLDEN_ROWS)
    answers = TorchEngine(subject.reference).answer(rows)
    for row, probabilities, label in zip(rows, answers.probabilities, answers.labels, strict=True):
        value = row if isinstance(row, str) else np.asarray(row).tolist()
        yield {interface: value, "probabilities": probabilities.tolist(), "label": label}


def _versions() -> dict[str, str]:
    return {
        "pipeline": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        **{name: version(name) for name in ("torch", "onnx", "numpy", "tritonclient")},
    }
