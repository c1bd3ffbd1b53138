"""Engines by their names, and how far the answers of two of them may be apart."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.client import Access, Client
from pipeline.client.over_http import HttpClient
from pipeline.errors import UsageError
from pipeline.gate import PRECISIONS
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, open_session
from pipeline.verify.compare import Tolerance
from pipeline.verify.engines import EndpointEngine, Engine, OnnxEngine, TorchEngine
from pipeline.verify.evaluator import EvaluatorEngine
from pipeline.verify.model_file import read_model

REFERENCE, CANDIDATE = "pytorch", "cpu"
EVALUATOR = "evaluator"
SESSIONS: dict[str, dict[str, Any]] = {
    "cpu": {"provider": CPU},
    "cpu-none": {"provider": CPU, "optimisation": "none"},
    "cpu-basic": {"provider": CPU, "optimisation": "basic"},
    "cpu-extended": {"provider": CPU, "optimisation": "extended"},
    "cuda": {"provider": CUDA},
    "cuda-tf32": {"provider": CUDA, "tf32": True},
}
IN_PROCESS = (REFERENCE, "pytorch-float64", *SESSIONS, EVALUATOR)
SCHEMES: dict[str, type[Client] | type[HttpClient]] = {"grpc://": Client, "http://": HttpClient}
TOLERANCES = {
    "cpu": Tolerance(1e-5),  # and every other that is not named here
    "cuda": Tolerance(1e-4),
    # Factors of 10 bits: emulated in NumPy they moved the probabilities of a small trained model by up to 8e-4.
    "cuda-tf32": Tolerance(5e-3),
    # Of an endpoint from the variant that it serves: another processor's last bit can move a number by one step.
    **{name: Tolerance(1e-3) for name in PRECISIONS},
}


def tolerance(*names: str) -> Tolerance:
    """Return what engines may be apart: the larger of what each may be from PyTorch in float32."""
    return max((TOLERANCES.get(name, TOLERANCES["cpu"]) for name in names), key=lambda allowed: allowed.absolute)


def is_live(name: str) -> bool:
    """Return whether a name is an endpoint's address."""
    return name.startswith(tuple(SCHEMES))


def require_names(names: tuple[str, ...]) -> None:
    """Refuse a name that is no engine's.

    Raises:
        UsageError: it is none.
    """
    for name in names:
        if name not in IN_PROCESS and name not in PRECISIONS and not is_live(name):
            raise UsageError(
                f"{name}: no engine; there are {', '.join(IN_PROCESS)}, grpc://HOST:PORT and http://HOST:PORT."
            )


class Engines(ExitStack):
    """The engines of one verification, each made when it is first asked for; leaving the context closes connections.

    Args:
        model: the model file.
        reference: the trained run.
        served_name: the model's name at the endpoints.
        access: how the endpoints are reached.
    """

    def __init__(self, model: Path, reference: Reference, served_name: str, access: Access | None = None) -> None:
        super().__init__()
        self._access = access or Access()
        self._model, self._reference, self._served_name = model, reference, served_name
        self._made: dict[str, Engine] = {}

    def named(self, name: str) -> Engine:
        """Return an engine.

        Raises:
            CheckFailed: the model file is not one that may be loaded.
            PipelineError: it does not load there, or the machine has no such provider.
            ServerError: the endpoint does not answer, or not for this model.
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Engine:
        if is_live(name):
            return self._endpoint(name)
        if name == REFERENCE:
            return TorchEngine(self._reference)
        if name == "pytorch-float64":
            return TorchEngine(self._reference.in_float64(), name)
        if name == EVALUATOR:
            return EvaluatorEngine(read_model(self._model), self._reference)
        if name in PRECISIONS:
            variant = RunDirectory(self._model.parent).require(PRECISIONS[name].file)
            return _session(variant, name, provider=PRECISIONS[name].provider)
        return self.session(name, **SESSIONS[name])

    def session(self, name: str, **settings: Any) -> OnnxEngine:
        """Return a new session of the model file, which must be self-contained; raises as `named` does."""
        return _session(self._model, name, **settings)

    def _endpoint(self, name: str) -> EndpointEngine:
        scheme = next(scheme for scheme in SCHEMES if name.startswith(scheme))
        client = SCHEMES[scheme](name.removeprefix(scheme).rstrip("/"), self._served_name, access=self._access)
        self.callback(client.close)
        return EndpointEngine(client, name)


def _session(model: Path, name: str, **settings: Any) -> OnnxEngine:
    read_model(model)
    return OnnxEngine(open_session(model, **settings), name)
