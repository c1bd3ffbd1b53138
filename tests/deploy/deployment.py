"""One deployment under test: Compose and the engine, asked on the command line as a user would."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy"
COMPOSE_FILE = FOLDER / "compose.yaml"
PROFILES = ("cpu", "gpu", "light")
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
        return f"127.0.0.1:{self.settings['GRPC_PORT']}"

    @property
    def image(self) -> str:
        return self.settings["LIGHT_IMAGE"]

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

    def start(self, service: str) -> None:
        """Start a service, or leave it running, and wait until its health check says that it is well."""
        self.compose(service, "up", "--detach")
        deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
        while (state := self.inspect(service)["State"])["Health"]["Status"] != "healthy":
            log = run("docker", "logs", self.container(service))
            assert time.monotonic() < deadline, f"{state}\n{log.stdout}{log.stderr}"
            time.sleep(0.2)

    def left_overs(self) -> str:
        """Return all that still bears the project's label."""
        label = f"--filter=label=com.docker.compose.project={self.project}"
        kinds = (("container", "--all"), ("network",), ("volume",))
        return "".join(output_of("docker", kind, "ls", "--quiet", label, *more) for kind, *more in kinds)


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
