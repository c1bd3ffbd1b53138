import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.deployment import PROFILES, Deployment, find_compose, output_of, run

MODEL = "opinions"


@pytest.fixture(scope="session")
def compose() -> tuple[str, ...]:
    """The command line of Compose, which needs no engine to read a file."""
    return find_compose() or pytest.skip("neither `docker compose` nor docker-compose is installed")


@pytest.fixture(scope="session")
def engine(compose: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of Compose, where a Docker engine answers it."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if (asked := run("docker", "version")).returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.strip()} Set DOCKER_HOST.")
    return compose


@pytest.fixture(scope="session")
def served_repository(published_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that everybody may read and write, so that nothing but the mount can refuse."""
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    shutil.copytree(published_repository, repository)
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    return repository


@pytest.fixture(scope="session")
def deployment(engine: tuple[str, ...], served_repository: Path) -> Iterator[Deployment]:
    """The light image, built, and nothing running yet. At the end all goes but the build cache."""
    project = f"pipeline-test-{os.getpid()}"
    http_port, grpc_port, metrics_port = _free_ports(3)
    settings = {
        "MODEL_REPOSITORY": str(served_repository),
        "MODEL_NAME": MODEL,
        "HTTP_PORT": http_port,
        "GRPC_PORT": grpc_port,
        "METRICS_PORT": metrics_port,
        "LIGHT_IMAGE": f"{project}:built",
        "TRITON_IMAGE": f"{project}:built",  # a stand-in: cpu and gpu are created to be looked at, and never started
        "BUILD_NETWORK": "host",
    }
    deployment = Deployment(engine, project, settings)
    deployment.compose("light", "build")
    try:
        yield deployment
    finally:
        for profile in PROFILES:
            deployment.compose(profile, "down", "--volumes")
        output_of("docker", "image", "rm", "--no-prune", deployment.image)


@pytest.fixture
def light(deployment: Deployment) -> Deployment:
    """The light profile, up and healthy."""
    deployment.start("light")
    return deployment


def _free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(listener.getsockname()[1]) for listener in listeners]
