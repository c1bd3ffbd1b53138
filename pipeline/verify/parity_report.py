"""``parity.json``: what was checked, what was found, on which bytes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.files import write_json


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        engine: what was checked: ``files``, or an engine by the name that ``--engine`` takes, followed by
            `` against NAME`` where the reference was not PyTorch.
        name: what was asked.
        passed: whether it held.
        detail: one line for a person.
        measured: the figures behind it, and the worst case, whole.
    """

    engine: str
    name: str
    passed: bool
    detail: str
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParityReport:
    """The outcome of a verification.

    Attributes:
        hashes: SHA-256 of every file the checks looked at, ``model.onnx`` and ``signature.json`` among them.
        versions: of every package that computed.
        tolerances: the largest |Δ probability| allowed, by engine; any other's is ``cpu``'s.
        checks: of the files, and of ONNX Runtime on the CPU against PyTorch, in the order they were made.
        endpoint_checks: of live endpoints; they say nothing about the files, so `publish` does not ask for them.
        goldens: some inputs with the reference's answers, for smoke tests where the model is served.
        engine_checks: of other engines, or against another reference: they neither open nor bar the way to `publish`.
        variants: for each variant that was checked, the same inputs with its own answers.
    """

    hashes: dict[str, str]
    versions: dict[str, str]
    tolerances: dict[str, float]
    checks: tuple[Check, ...]
    endpoint_checks: tuple[Check, ...]
    goldens: tuple[dict[str, Any], ...]
    engine_checks: tuple[Check, ...] = ()
    variants: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the files may be published: every check of them held, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[str]:
        """The names of the checks that failed, an endpoint's and other engines' too."""
        made = (*self.checks, *self.engine_checks, *self.endpoint_checks)
        return [f"{check.engine} {check.name}" for check in made if not check.passed]

    def save(self, path: Path) -> None:
        """Write ``parity.json``."""
        write_json(path, {"format": 1, "passed": self.passed, **asdict(self)})
