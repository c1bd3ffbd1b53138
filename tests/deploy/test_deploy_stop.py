"""What is left when it ends; the last of the compose tests."""

import time

import pytest

from pipeline.client import Client
from tests.deploy.conftest import MODEL
from tests.deploy.deployment import PROFILES, Deployment

pytestmark = pytest.mark.docker


def test_stopping_is_quick_and_clean(light: Deployment) -> None:
    with Client(light.url, MODEL, access=light.caller) as client:
        client.classify(["a lovely film"])
    begun = time.monotonic()
    light.compose("light", "stop", "light", "gateway")
    assert time.monotonic() - begun < 20
    for service in ("light", "gateway"):
        state = light.inspect(service)["State"]
        assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False), service


def test_on_a_laptop_one_command_is_enough(deployment: Deployment) -> None:
    deployment.start("laptop", "laptop")
    with Client(f"127.0.0.1:{deployment.settings['GRPC_PORT']}", MODEL) as client:
        assert [answer.valid for answer in client.classify(["a lovely film", b"\xff"])] == [True, False]
    deployment.compose("laptop", "stop", "laptop")


def test_taking_it_down_leaves_nothing(deployment: Deployment) -> None:
    for profile in PROFILES:
        deployment.compose(profile, "down", "--volumes")
    assert deployment.left_overs() == ""
