"""The profile `cpu` as it stands, started; but for the image, in whose place stands the Triton of the wheel."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.client import Client
from pipeline.client.control import Control
from pipeline.errors import RequestError
from pipeline.repository.goldens import Goldens
from tests.deploy.conftest import MODEL
from tests.deploy.deployment import Deployment

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def cpu(deployment: Deployment) -> Iterator[Deployment]:
    """The cpu profile, up and healthy; the light one needs its name on the network afterwards."""
    deployment.start("cpu", "cpu", "gateway")
    yield deployment
    deployment.compose("cpu", "rm", "--stop", "--force", "cpu")


def test_cpu_gives_the_verified_answers(cpu: Deployment, served_repository: Path) -> None:
    goldens = Goldens.load(served_repository / MODEL / "1")
    with Client(cpu.url, MODEL, access=cpu.caller) as client:
        answers = client.classify([golden.row for golden in goldens.rows])
    assert goldens.faults((answer.label, tuple(answer.probabilities.values())) for answer in answers) == []


def test_cpu_loads_and_counts_for_whoever_has_the_token_alone(cpu: Deployment) -> None:
    with Control(cpu.url, replace(cpu.caller, token=cpu.token)) as control:
        control.load("waves", 30)
        assert control.versions() == {MODEL: (1,), "waves": (1,)}
        control.unload("waves", 30)
        assert control.answered(MODEL) > 0
    with Control(cpu.url, cpu.caller) as control:
        with pytest.raises(RequestError, match="token"):
            control.load("waves", 30)
        with pytest.raises(RequestError, match="token"):
            control.answered(MODEL)


def test_the_token_cannot_be_read_from_outside_the_container(cpu: Deployment) -> None:
    assert cpu.token not in str(cpu.inspect("cpu"))


def test_cpu_stops_in_order(cpu: Deployment) -> None:
    cpu.compose("cpu", "stop", "cpu")
    state = cpu.inspect("cpu")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
