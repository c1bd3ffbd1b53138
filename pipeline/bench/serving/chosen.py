"""What a caller names to the target that is meant, and where the answers that are expected come from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.serving.targets import OnnxTarget, Target, TritonTarget
from pipeline.client import Access
from pipeline.client.control import Control
from pipeline.errors import UsageError
from pipeline.repository.scan import scan
from pipeline.run_directory import RunDirectory
from pipeline.serve import running


@dataclass(frozen=True)
class Chosen:
    """A target, and one whose answers to each text alone are expected of it: the same model file in process."""

    target: Target
    reference: Target


@contextmanager
def model_file(path: Path, threads: int = 0, instances: int = 1) -> Iterator[Chosen]:
    """Choose a model file, or a run's, in process.

    Raises:
        UsageError: there is no such file or run.
        RunError: the run has no exported model.
    """
    model = RunDirectory.open(path).require("model.onnx") if path.is_dir() else path
    if not model.is_file():
        raise UsageError(f"{path}: no such model file or run.")
    target = OnnxTarget(model, threads, instances=instances)
    yield Chosen(target, target)


@contextmanager
def served(repository: Path, model: str = "") -> Iterator[Chosen]:
    """Serve one model of a repository with the wheel's Triton; without a name, its only one.

    Raises:
        UsageError: there is no such model, or there are several.
        RepositoryError: the repository cannot be read.
        ServerError: the server does not start.
    """
    models = [name for name in scan(repository) if model in ("", name)]
    if len(models) != 1:
        there = ", ".join(scan(repository)) or "none"
        raise UsageError(f"{repository}: name one model with --model; there are: {there}.")
    (name,) = models
    with running(repository, models=(name,)) as server:
        with Control(server.grpc_url) as control:
            version = control.versions()[name][-1]
        target = TritonTarget(server.grpc_url, name, name="embedded Triton")
        yield Chosen(target, OnnxTarget(repository / name / str(version) / "model.onnx"))


@contextmanager
def endpoint(url: str, model: str, access: Access) -> Iterator[Chosen]:
    """Choose a model on a running server: ``HOST:PORT`` for gRPC, ``http://HOST:PORT`` for HTTP.

    Raises:
        UsageError: the address is not one of these, or no model is named.
    """
    protocol, _, address = url.rpartition("://")
    host, _, port = address.rpartition(":")
    if protocol not in ("", "grpc", "http", "https") or not host or not port.isdecimal():
        raise UsageError(f"--url {url}: wanted HOST:PORT of the gRPC port, or http://HOST:PORT.")
    if not model:
        raise UsageError(f"--url {url}: name a model with --model.")
    if protocol == "https" and not access.is_secure:
        raise UsageError(f"--url {url}: give --ca, the authority that signed the server's certificate.")
    target = TritonTarget(address, model, "http" if protocol.startswith("http") else "grpc", access=access)
    yield Chosen(target, target)
