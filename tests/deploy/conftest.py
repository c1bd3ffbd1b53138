import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.deployment import FOLDER, PROFILES, Deployment, find_compose, output_of, run

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
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the one command for certificates makes."""
    return make_secrets(tmp_path_factory.mktemp("secrets") / "ours")


@pytest.fixture(scope="session")
def other_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of another authority."""
    return make_secrets(tmp_path_factory.mktemp("secrets") / "theirs")


def make_secrets(folder: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    if os.getuid() not in (0, 1000):
        pytest.skip(f"certificates.sh wants to be root or user 1000, not {os.getuid()}")
    output_of(str(FOLDER / "certificates.sh"), str(folder))
    return folder


@pytest.fixture(scope="session")
def served_repository(published_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that everybody may read and write, so that nothing but the mount can refuse."""
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    shutil.copytree(published_repository, repository)
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    return repository


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The monitoring as it is, but that it looks every second, and that an alert waits two."""
    folder = tmp_path_factory.mktemp("impatient") / "monitoring"
    shutil.copytree(FOLDER / "monitoring", folder)
    for name, words in (("prometheus.yml", "interval: [0-9]+s"), ("alerts.yml", "for: [0-9]+[sm]")):
        text, count = re.subn(words, lambda found: re.sub("[0-9]+.", "2s", found[0]), (folder / name).read_text())
        assert count, name
        (folder / name).write_text(text)
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def deployment(
    engine: tuple[str, ...], served_repository: Path, secrets: Path, impatient: Path
) -> Iterator[Deployment]:
    """All images that can be built here, and nothing running yet. At the end all goes but the build cache."""
    project = f"pipeline-test-{os.getpid()}"
    port_names = ("PORT", "HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT")
    images = {name: f"{project}-{name}:built" for name in ("light", "gateway", "prometheus", "triton")}
    settings = {
        **dict(zip(port_names, _free_ports(len(port_names)), strict=True)),
        "MODEL_REPOSITORY": str(served_repository),
        "MODEL_NAME": MODEL,
        "SECRETS": str(secrets),
        "MONITORING": str(impatient),
        "CANARY_SECONDS": "1",
        "LIGHT_IMAGE": images["light"],
        "GATEWAY_IMAGE": images["gateway"],
        "PROMETHEUS_IMAGE": images["prometheus"],
        "ALERTMANAGER_IMAGE": images["prometheus"],
        "TRITON_IMAGE": images["triton"],
        "GRAFANA_IMAGE": images["light"],  # a stand-in: gpu and Grafana are created to be looked at, and never started
        "BUILD_NETWORK": "host",
    }
    deployment = Deployment(engine, project, settings)
    deployment.compose("light", "build")
    build = ("docker", "build", "--network=host", f"--build-arg=LIGHT_IMAGE={images['light']}")
    output_of(*build, f"--tag={images['prometheus']}", str(FOLDER / "monitoring"))
    output_of(*build, f"--tag={images['triton']}", str(Path(__file__).with_name("wheel_triton")))
    try:
        yield deployment
    finally:
        for profile in PROFILES:
            deployment.compose(profile, "down", "--volumes", "--timeout", "20")
        output_of("docker", "image", "rm", "--no-prune", *images.values())


@pytest.fixture
def light(deployment: Deployment) -> Deployment:
    """The light profile, up and healthy."""
    deployment.start("light", "light", "gateway")
    return deployment


@pytest.fixture
def watched(light: Deployment) -> Deployment:
    """The same, and its monitoring."""
    light.start("monitoring", "canary", "prometheus", "alertmanager")
    return light


def _free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(listener.getsockname()[1]) for listener in listeners]
