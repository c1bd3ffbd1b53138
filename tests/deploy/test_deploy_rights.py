"""Every service as the engine makes it: what it may do, see and reach; none of them needs to run for that."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import MODEL
from tests.deploy.deployment import MONITORING, PROFILES, SERVERS, Deployment, output_of

Made = dict[str, dict[str, Any]]

pytestmark = pytest.mark.docker

MEGABYTE = 2**20
SERVICES = (*SERVERS, "gateway", *MONITORING)
USERS = {"prometheus": "65534:65534", "alertmanager": "65534:65534", "grafana": "472:0"}
UIS = ("prometheus", "alertmanager", "grafana")


@pytest.fixture(scope="module")
def made(deployment: Deployment) -> Made:
    """What the engine tells of each service's container."""
    for profile in PROFILES:
        deployment.compose(profile, "up", "--no-start")
    return {service: deployment.inspect(service) for service in SERVICES}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_created_with_no_more_rights_than_it_needs(made: Made, service: str) -> None:
    container = made[service]
    config, host = container["Config"], container["HostConfig"]
    assert config["User"] == USERS.get(service, "1000:1000")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert 0 < host["PidsLimit"] <= 1024
    assert host["Memory"] >= 256 * MEGABYTE
    assert host["Init"]
    assert all(not mount["RW"] for mount in container["Mounts"] if mount["Type"] == "bind")


@pytest.mark.parametrize("service", SERVERS)
def test_every_server_has_the_time_and_memory_that_triton_needs(made: Made, service: str) -> None:
    container = made[service]
    assert container["HostConfig"]["PidsLimit"] == 1024
    assert container["HostConfig"]["Memory"] >= 1024 * MEGABYTE
    assert container["HostConfig"]["ShmSize"] == 256 * MEGABYTE
    assert list(container["HostConfig"]["Tmpfs"]) == ["/tmp"]  # noqa: S108
    assert container["Config"]["StopTimeout"] == 40
    assert f"/v2/models/{MODEL}/ready" in container["Config"]["Healthcheck"]["Test"][-1]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_sees_its_own_files_alone(deployment: Deployment, made: Made, service: str) -> None:
    models, secrets, monitoring = (deployment.settings[name] for name in ("MODEL_REPOSITORY", "SECRETS", "MONITORING"))
    token = {"/models": models, "/run/secrets": f"{secrets}/triton"}
    wanted = {
        "cpu": token,
        "gpu": token,
        "light": token,
        "laptop": {"/models": models},
        "gateway": {"/run/secrets": f"{secrets}/gateway"},
        "canary": {"/models": models, "/run/secrets": f"{secrets}/canary"},
        "prometheus": {"/etc/prometheus": monitoring},
        "alertmanager": {"/etc/alertmanager": monitoring},
        "grafana": {"/etc/grafana/provisioning": f"{monitoring}/grafana"},
    }
    bound = [mount for mount in made[service]["Mounts"] if mount["Type"] == "bind"]
    assert {mount["Destination"]: mount["Source"] for mount in bound} == wanted[service]


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_stands_in_what_the_engine_tells_of_a_container(
    deployment: Deployment, made: Made, service: str
) -> None:
    assert deployment.token not in json.dumps(made[service])


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_loopback_and_triton_has_none_behind_the_gateway(made: Made, service: str) -> None:
    bindings = made[service]["HostConfig"]["PortBindings"] or {}
    published = {"gateway": ["8443/tcp"], "laptop": ["8000/tcp", "8001/tcp", "8002/tcp"]}
    published |= {"prometheus": ["9090/tcp"], "alertmanager": ["9093/tcp"], "grafana": ["3000/tcp"]}
    assert sorted(bindings) == published.get(service, [])
    assert {binding["HostIp"] for port in bindings.values() for binding in port} <= {"127.0.0.1"}


@pytest.mark.parametrize("service", [name for name in SERVICES if name not in ("laptop", "gateway", *UIS)])
def test_what_publishes_no_port_is_on_the_network_without_a_way_out(made: Made, service: str) -> None:
    (network,) = made[service]["NetworkSettings"]["Networks"]
    assert output_of("docker", "network", "inspect", "--format", "{{.Internal}}", network) == "true\n"


def test_only_the_gpu_profile_asks_for_a_gpu(made: Made) -> None:
    asked = {service: made[service]["HostConfig"]["DeviceRequests"] for service in SERVERS}
    gpu = asked.pop("gpu")
    assert not any(asked.values())
    assert [(device["Driver"], device["Capabilities"]) for device in gpu] == [("nvidia", [["gpu"]])]


def test_without_its_secrets_nothing_is_started_and_what_is_missing_is_named(
    deployment: Deployment, tmp_path: Path
) -> None:
    bare = replace(
        deployment,
        project=f"{deployment.project}-bare",
        settings=deployment.settings | {"SECRETS": str(tmp_path / "none")},
    )
    try:
        with pytest.raises(AssertionError, match=f"bind source path does not exist: {tmp_path}/none/(gateway|triton)"):
            bare.compose("light", "up", "--detach")
        assert not bare.container("light")
        assert not bare.container("gateway")
    finally:
        bare.compose("light", "down", "--volumes")
