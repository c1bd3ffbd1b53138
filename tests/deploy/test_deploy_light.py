import shutil
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipeline.client import Client, Prediction
from pipeline.errors import ServerError
from tests.deploy.deployment import PROFILES, Deployment, output_of, run

pytestmark = pytest.mark.docker

MODEL = "opinions"
TEXTS = ("the film is lovely", "my dinner was a bore", "电影 很好", "", "ÇA never works " * 50, b"\xff\xfe")
MEGABYTE = 2**20


def ask(deployment: Deployment, version: str = "") -> list[Prediction]:
    with Client(deployment.url, MODEL, version) as client:
        return client.classify(TEXTS)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_created_with_no_more_rights_than_it_needs(deployment: Deployment, profile: str) -> None:
    deployment.compose(profile, "up", "--no-start")
    made = deployment.inspect(profile)
    config, host = made["Config"], made["HostConfig"]
    assert config["User"] == "1000:1000"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["PidsLimit"] == 1024
    assert host["Memory"] >= 1024 * MEGABYTE
    assert host["ShmSize"] == 256 * MEGABYTE
    assert host["Init"]
    assert list(host["Tmpfs"]) == ["/tmp"]  # noqa: S108
    assert config["StopTimeout"] == 40
    assert f"/v2/models/{MODEL}/ready" in config["Healthcheck"]["Test"][-1]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_mounts_the_repository_read_only_and_listens_on_loopback(
    deployment: Deployment, profile: str
) -> None:
    deployment.compose(profile, "up", "--no-start")
    made = deployment.inspect(profile)
    mounts = [(mount["Source"], mount["Destination"], mount["RW"]) for mount in made["Mounts"]]
    assert mounts == [(deployment.settings["MODEL_REPOSITORY"], "/models", False)]
    bindings = made["HostConfig"]["PortBindings"]
    assert sorted(bindings) == ["8000/tcp", "8001/tcp", "8002/tcp"]
    assert {binding["HostIp"] for port in bindings.values() for binding in port} == {"127.0.0.1"}


def test_only_the_gpu_profile_asks_for_a_gpu(deployment: Deployment) -> None:
    for profile in PROFILES:
        deployment.compose(profile, "up", "--no-start")
    asked = {profile: deployment.inspect(profile)["HostConfig"]["DeviceRequests"] for profile in PROFILES}
    assert not asked["cpu"]
    assert not asked["light"]
    assert [(device["Driver"], device["Capabilities"]) for device in asked["gpu"]] == [("nvidia", [["gpu"]])]


def test_light_answers_as_onnx_runtime_does_in_process(light: Deployment, published_repository: Path) -> None:
    session = onnxruntime.InferenceSession(
        published_repository / MODEL / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = ["probabilities", "label"]
    texts = [text for text in TEXTS if isinstance(text, str)]
    answers = [session.run(names, {"text": np.array([[text]], dtype=object)}) for text in texts]
    for got, (probabilities, label) in zip(ask(light), answers, strict=False):
        assert got.valid
        assert got.label == label[0, 0]
        assert list(got.probabilities.values()) == pytest.approx(probabilities[0].tolist(), abs=1e-5)
    assert not ask(light)[-1].valid


def test_light_serves_a_version_published_while_it_runs(light: Deployment, served_repository: Path) -> None:
    versions = served_repository / MODEL
    staging, new = versions / ".staging", versions / "2"
    shutil.copytree(versions / "1", staging)
    staging.rename(new)
    deadline = time.monotonic() + 20
    while True:
        try:
            assert len(ask(light, version="2")) == len(TEXTS)
            break
        except ServerError:
            assert time.monotonic() < deadline, output_of("docker", "logs", light.container("light"))
            time.sleep(0.2)


def test_nobody_inside_can_write_the_repository_or_the_root(light: Deployment) -> None:
    for path in ("/models/new", f"/models/{MODEL}/1/model.onnx", "/opt/pipeline/new"):
        for user in ("0:0", "1000:1000"):
            touched = light.execute("light", "touch", path, user=user)
            assert touched.returncode != 0, f"{user} could write {path}"
            assert "Read-only file system" in touched.stderr or user == "1000:1000", touched.stderr


def test_every_process_runs_as_uid_1000_without_capabilities(light: Deployment) -> None:
    shown = light.execute("light", "sh", "-c", "cat /proc/[0-9]*/status").stdout
    rows = [line.split() for line in shown.splitlines()]
    values = {name: {row[1] for row in rows if row[0] == f"{name}:"} for name in ("Uid", "Gid", "CapBnd", "NoNewPrivs")}
    assert len([row for row in rows if row[:2] == ["Name:", "tritonserver"]]) == 1
    assert values == {"Uid": {"1000"}, "Gid": {"1000"}, "CapBnd": {"0" * 16}, "NoNewPrivs": {"1"}}


def test_the_health_check_fails_for_a_model_that_is_not_served(light: Deployment) -> None:
    _, *check = light.inspect("light")["Config"]["Healthcheck"]["Test"]
    other = [part.replace(f"/v2/models/{MODEL}/", "/v2/models/waves/") for part in check]
    assert light.execute("light", *check).returncode == 0
    assert light.execute("light", *other).returncode == 1


def test_a_model_that_is_not_there_is_refused_in_one_line(deployment: Deployment, served_repository: Path) -> None:
    mount = f"--volume={served_repository}:/models:ro"
    refused = run("docker", "run", "--rm", "--init", mount, deployment.image, "--model", "opinion")
    assert refused.returncode == 2
    assert refused.stderr == "pipeline: /models: no model named opinion; there are opinions, waves.\n"


def test_the_light_image_is_small_and_not_root(deployment: Deployment) -> None:
    size, user = output_of("docker", "inspect", "--format", "{{.Size}} {{.Config.User}}", deployment.image).split()
    assert int(size) < 700e6
    assert user == "1000:1000"


def test_stopping_is_quick_clean_and_leaves_nothing(light: Deployment) -> None:
    ask(light)
    begun = time.monotonic()
    light.compose("light", "stop")
    seconds = time.monotonic() - begun
    state = light.inspect("light")["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)
    assert seconds < 20
    for profile in PROFILES:
        light.compose(profile, "down", "--volumes")
    assert light.left_overs() == ""
