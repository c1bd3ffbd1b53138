"""Ask every engine every question, and write down the answers."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pipeline import __version__
from pipeline.client import Client
from pipeline.dataset import Dataset
from pipeline.errors import PipelineError, RequestError, ServerError
from pipeline.files import sha256_of
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, OPTIMISATIONS, open_session
from pipeline.signature import Signature
from pipeline.verify import cases, checks
from pipeline.verify.compare import Tolerance
from pipeline.verify.declared import check_contract, check_graph, check_hashes, check_weights
from pipeline.verify.engines import EndpointEngine, Engine, OnnxEngine, TorchEngine
from pipeline.verify.parity_report import Check, ParityReport
from pipeline.verify.variants import check_variants, variant_files, variant_goldens

TOLERANCES = {CPU: Tolerance(1e-5), CUDA: Tolerance(1e-4)}
PROVIDERS = {"cpu": CPU, "cuda": CUDA}
SAMPLE_ROWS = 64
GOLDEN_ROWS = 8


def verify(
    run: RunDirectory,
    data: Path | None = None,
    *,
    providers: tuple[str, ...] = ("cpu",),
    endpoint: str | None = None,
    model: str | None = None,
    progress: Callable[[Check], None] = lambda _: None,
) -> ParityReport:
    """Compare an exported run with PyTorch on every provider, and on a live endpoint, and write ``parity.json``.

    Args:
        run: an exported run.
        data: the data set, where it is no longer in the place it was trained from.
        providers: ``cpu``, ``cuda``.
        endpoint: ``HOST:PORT`` of a Triton gRPC endpoint that serves the model.
        model: the model's name there; the run's own by default.
        progress: called with every check as it is made.

    Raises:
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
        ServerError: the endpoint does not answer, or not for this model; an earlier report is untouched.
    """
    reference = Reference.load(run)
    dataset = reference.dataset(data)
    signature = Signature.load(run.require("signature.json"))
    hashes = {
        name: sha256_of(run.require(name))
        for name in (*run.info["hashes"], "model.onnx", "signature.json", *variant_files(run))
    }

    def noted(made: Iterator[Check]) -> Iterator[Check]:
        for check in made:
            progress(check)
            yield check

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Client(endpoint, model or run.info["name"])) if endpoint else None
        if client:
            client.contract()  # who cannot be reached is not a failed check: nothing is written
        checks_of_files = _file_checks(run, reference, dataset, signature, providers)
        local = tuple(noted(chain(checks_of_files, check_variants(run, reference, dataset))))
        live = tuple(noted(_endpoint_checks(client, reference, dataset))) if client else ()
    tolerances = {provider: tolerance.absolute for provider, tolerance in TOLERANCES.items()}
    goldens = tuple(_goldens(reference, dataset))
    report = ParityReport(
        hashes, _versions(), tolerances, local, live, goldens, variants=variant_goldens(run, dataset, GOLDEN_ROWS)
    )
    report.save(run / "parity.json")
    return report


def _file_checks(
    run: RunDirectory, reference: Reference, dataset: Dataset, signature: Signature, providers: tuple[str, ...]
) -> Iterator[Check]:
    yield check_hashes(run, signature)
    graph = check_graph(run, signature, reference)
    yield graph
    if graph.passed:
        yield check_weights(run, reference)
    for name in providers:
        provider = PROVIDERS[name]
        try:
            session = open_session(run / "model.onnx", provider)
        except PipelineError as error:
            yield Check(provider, "load", False, str(error))
            continue
        asked = _engine_checks(OnnxEngine(session), reference, dataset, TOLERANCES[provider])
        yield from _answered(provider, chain(asked, _setting_checks(run, provider, reference, dataset)))


def _setting_checks(run: RunDirectory, provider: str, reference: Reference, dataset: Dataset) -> Iterator[Check]:
    """Check that neither the graph's optimisation nor the number of threads decides an answer."""
    sample = cases.sample_batch(reference, dataset, SAMPLE_ROWS)

    def engine(**settings: Any) -> OnnxEngine:
        return OnnxEngine(open_session(run / "model.onnx", provider, **settings))

    double = TorchEngine(reference.in_float64())
    yield checks.parity("float64", double, engine(), [sample], TOLERANCES[provider])
    engines = {name: engine(optimisation=name) for name in OPTIMISATIONS}
    yield checks.settings("optimisation", TorchEngine(reference), engines, sample, TOLERANCES[provider])
    engines = {f"{count} threads": engine(threads=count) for count in sorted({1, 2, os.cpu_count() or 1})}
    yield checks.settings("threads", engine(), engines, sample, checks.INVARIANCE)


def _endpoint_checks(client: Client, reference: Reference, dataset: Dataset) -> Iterator[Check]:
    engine = EndpointEngine(client)
    contract = check_contract(engine.name, client.contract(), reference.signature)
    yield contract
    if contract.passed:
        yield from _answered(engine.name, _engine_checks(engine, reference, dataset, TOLERANCES[CPU]))


def _engine_checks(engine: Engine, reference: Reference, dataset: Dataset, tolerance: Tolerance) -> Iterator[Check]:
    interface, largest = reference.signature.interface, reference.recipe.publish.max_batch_size
    torch = TorchEngine(reference)
    questions = {
        "grid": cases.grid(reference, dataset),
        "held-out rows": cases.held_out(dataset, interface, largest),
    }
    if interface == "text":
        questions |= {
            "vocabulary": cases.vocabulary(reference),
            "hostile texts": cases.hostile_texts(),
            "drawn texts": cases.drawn_texts(),
        }
    elif not isinstance(engine, EndpointEngine):  # the client refuses such frames itself
        questions["hostile numbers"] = cases.hostile_frames(reference.signature.feature_size or 0)
    for name, batches in questions.items():
        yield checks.parity(name, torch, engine, batches, tolerance)
    rows, longest = cases.sample(dataset, interface, SAMPLE_ROWS), cases.longest_row(reference, dataset)
    yield from checks.batch_invariance(engine, rows, longest, largest, is_text=interface == "text")


def _answered(engine: str, made: Iterator[Check]) -> Iterator[Check]:
    """Pass checks on; an engine that cannot answer fails one more, named ``answers``, and is asked nothing else.

    Raises:
        ServerError: a server is gone, which says nothing about its answers.
    """
    try:
        yield from made
    except PipelineError as error:
        if isinstance(error, ServerError) and not isinstance(error, RequestError):
            raise
        yield Check(engine, "answers", False, f"the engine failed: {error}")


def _goldens(reference: Reference, dataset: Dataset) -> Iterator[dict[str, Any]]:
    interface = reference.signature.interface
    rows = cases.sample(dataset, interface, GOLDEN_ROWS)
    answers = TorchEngine(reference).answer(rows)
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
