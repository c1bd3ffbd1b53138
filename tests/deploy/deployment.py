"""One deployment under test: Compose and the engine, asked on the command line as a user would."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.client import Access

FOLDER = Path(__file__).parents[2] / "deploy"
COMPOSE_FILE = FOLDER / "compose.yaml"
SERVERS = ("cpu", "gpu", "light", "laptop")
MONITORING = ("canary", "prometheus", "alertmanager", "grafana")
PROFILES = (*SERVERS, "monitoring")
HEALTHY_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Deployment:
    """A project of its own, on ports of its own.

    Attributes:
        program: the command line of Compose.
        project: the name that all of its containers, networks and volumes are labelled with.
        settings: the environment variables that the compose file reads.
    """

    program: tuple[str, ...]
    project: str
    settings: dict[str, str]

    @property
    def url(self) -> str:
        """Where the gateway listens on this machine."""
        return f"localhost:{self.settings['PORT']}"

    @property
    def image(self) -> str:
        return self.settings["LIGHT_IMAGE"]

    @property
    def secrets(self) -> Path:
        return Path(self.settings["SECRETS"])

    @property
    def stranger(self) -> Access:
        """A caller who knows the authority, and has no certificate."""
        return Access(ca=self.secrets / "client" / "ca.crt")

    @property
    def caller(self) -> Access:
        """A caller with a certificate."""
        return caller_of(self.secrets)

    @property
    def token(self) -> str:
        return (self.secrets / "client" / "token").read_text().strip()

    def compose(self, profile: str, *arguments: str) -> str:
        options = ("--file", str(COMPOSE_FILE), "--project-name", self.project, "--profile", profile)
        return output_of(*self.program, *options, *arguments, settings=self.settings)

    def container(self, service: str) -> str:
        labels = {"project": self.project, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return output_of("docker", "ps", "--all", "--quiet", *filters).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        return json.loads(output_of("docker", "inspect", self.container(service)))[0]

    def execute(self, service: str, *command: str, user: str = "1000:1000") -> subprocess.CompletedProcess[str]:
        return run("docker", "exec", "--user", user, self.container(service), *command)

    def start(self, profile: str, *services: str) -> None:
        """Start services, or leave them running, and wait until each is well."""
        if not all(map(self.is_well, services)):
            self.compose(profile, "up", "--detach", *services)
        for service in services:
            eventually(partial(self.is_well, service), HEALTHY_WITHIN_SECONDS, partial(self.log, service))

    def is_well(self, service: str) -> bool:
        """Return whether a service runs, and its health check, if it has one, says that all is well."""
        if not self.container(service):
            return False
        state = self.inspect(service)["State"]
        return state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy"

    def log(self, service: str) -> str:
        shown = run("docker", "logs", "--tail", "30", self.container(service))
        return f"{self.inspect(service)['State']}\n{shown.stdout}{shown.stderr}"

    def left_overs(self) -> str:
        """Return all that still bears the project's label."""
        label = f"--filter=label=com.docker.compose.project={self.project}"
        kinds = (("container", "--all"), ("network",), ("volume",))
        return "".join(output_of("docker", kind, "ls", "--quiet", label, *more) for kind, *more in kinds)


def caller_of(secrets: Path) -> Access:
    """Return what a caller shows who was given the folder `client` of what certificates.sh made."""
    folder = secrets / "client"
    return Access(folder / "ca.crt", folder / "client.crt", folder / "client.key")


def eventually(condition: Callable[[], object], seconds: float, tell: Callable[[], str] = lambda: "") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s. {tell()}"
        time.sleep(0.2)


def find_compose() -> tuple[str, ...] | None:
    """Return the command line of Compose: version 2, else 1.29."""
    for program in (("docker", "compose"), ("docker-compose",)):
        try:
            if run(*program, "version").returncode == 0:
                return program
        except FileNotFoundError:
            continue
    return None


def run(*command: str, settings: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | (settings or {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def output_of(*command: str, settings: dict[str, str] | None = None) -> str:
    done = run(*command, settings=settings)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
