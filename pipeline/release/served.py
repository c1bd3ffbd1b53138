"""Whether a running server serves what the repository says: the versions, their configuration, their statistics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.client import Access
from pipeline.client.control import Control
from pipeline.errors import RepositoryError, RequestError, ServerError
from pipeline.repository import config


@dataclass(frozen=True)
class Served:
    """One model on a server.

    Attributes:
        model: its name there.
        ready: the versions that are ready.
        answered: the requests that each loaded version has answered.
        differences: a line for each thing that is not as the repository says.
    """

    model: str
    ready: tuple[int, ...]
    answered: dict[int, int]
    differences: tuple[str, ...]


def look(repository: Path, intended: dict[str, int | None], url: str, access: Access | None) -> dict[str, Served]:
    """Ask a server for some models, and return those that it serves or should.

    Args:
        repository: the model repository.
        intended: the version of each model that should be served; None for none.
        url: host and gRPC port.
        access: how to reach it.

    Raises:
        ServerError: it does not answer, or refuses.
        RepositoryError: the repository was changed meanwhile.
    """
    try:
        with Control(url, access) as control:
            ready, reasons = control.versions(), control.failures()
            return {
                model: _compare(control, repository / model, version, ready.get(model, ()), reasons.get(model, ""))
                for model, version in intended.items()
                if version is not None or model in ready
            }
    except RequestError as error:
        raise ServerError(f"{url}: {error}") from error
    except FileNotFoundError as error:
        raise RepositoryError(f"{error.filename}: was taken away while it was compared. Look again.") from error


def _compare(control: Control, folder: Path, intended: int | None, ready: tuple[int, ...], reason: str) -> Served:
    model, wanted = folder.name, () if intended is None else (intended,)
    if ready != wanted:
        why = f" ({reason})" if reason else ""
        line = f"{model}: the server has {_words(ready)} ready{why}, the repository says {_words(wanted)}"
        return Served(model, ready, {}, (line,))
    answered = control.statistics(model)
    differences = [
        f"{model}: {key} is {got} on the server, {said} in the repository"
        for key, got, said in _configured(
            control.config(model), config.loads((folder / config.CONFIG_FILE).read_text())
        )
        if got != said
    ]
    if tuple(answered) != wanted:
        differences.append(f"{model}: the server counts requests of {_words(tuple(answered))}, not {_words(wanted)}")
    return Served(model, ready, answered, tuple(differences))


def _configured(server: Any, disk: Any) -> list[tuple[str, str, str]]:
    """Return the version policy and each parameter of the repository, as the server has it and as it stands there."""
    parameters = [
        (f"parameter {key}", server.parameters[key].string_value if key in server.parameters else "missing", value)
        for key, value in sorted((key, item.string_value) for key, item in disk.parameters.items())
    ]
    served, said = (" ".join(str(message.version_policy).split()) for message in (server, disk))
    return [("version policy", served, said), *parameters]


def _words(versions: tuple[int, ...]) -> str:
    return ", ".join(f"version {version}" for version in versions) or "no version"
