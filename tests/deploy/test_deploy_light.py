from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipeline.client import Client, Prediction
from pipeline.errors import ServerError
from pipeline.publish import publish
from pipeline.run_directory import RunDirectory
from tests.deploy.conftest import MODEL
from tests.deploy.deployment import Deployment, eventually, output_of, run

pytestmark = pytest.mark.docker

TEXTS = ("the film is lovely", "my dinner was a bore", "电影 很好", "", "ÇA never works " * 50, b"\xff\xfe")


def ask(deployment: Deployment, version: str = "") -> list[Prediction]:
    with Client(deployment.url, MODEL, version, access=deployment.caller) as client:
        return client.classify(TEXTS)


def answers(deployment: Deployment, version: str) -> bool:
    try:
        return len(ask(deployment, version)) == len(TEXTS)
    except ServerError:
        return False


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


def test_light_serves_a_version_published_while_it_runs(
    light: Deployment, served_repository: Path, verified_run: RunDirectory
) -> None:
    version = publish(verified_run, served_repository).name
    eventually(lambda: answers(light, version), 20, lambda: light.log("light"))


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
