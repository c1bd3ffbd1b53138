import json
import re
import stat
from pathlib import Path

import pytest

from tests.deploy.conftest import make_secrets
from tests.deploy.deployment import COMPOSE_FILE, FOLDER, SERVERS, output_of, run
from tests.wheel import options_of_triton

COMPOSE = COMPOSE_FILE.read_text("utf-8")
ALERTS = (FOLDER / "monitoring" / "alerts.yml").read_text("utf-8")


def pins(text: str) -> dict[str, str]:
    requirements = [line.split("#")[0].strip() for line in text.splitlines()]
    pairs = (requirement.split("==") for requirement in requirements if requirement)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_every_image_is_pinned_by_its_tag() -> None:
    images = re.findall(r"(?:image|BASE_IMAGE): \$\{\w+:-(\S+)\}", COMPOSE)
    assert len(images) == 8
    for file in (FOLDER / folder / "Dockerfile" for folder in (".", "gateway", "monitoring")):
        images += (
            bases := re.findall(r"^(?:FROM|ARG BASE_IMAGE=) ?([^$\s]\S*)", file.read_text("utf-8"), re.MULTILINE)
        )
        assert len(bases) == 1, file
    for image in images:
        assert re.search(r":v?\d[\w.-]*$", image), f"{image}: no version"


def test_every_port_is_published_on_loopback_and_the_gateways_unless_asked_otherwise() -> None:
    published = re.findall(r'"(\S+):\$\{\w*PORT:-\d+\}:\d+"', COMPOSE)
    assert sorted(published) == ["${BIND_ADDRESS:-127.0.0.1}", *["127.0.0.1"] * 6]


def test_the_light_image_installs_the_tested_versions_and_no_training_library() -> None:
    tested = pins((FOLDER.parent / "constraints.txt").read_text("utf-8"))
    installed = pins((FOLDER / "requirements.txt").read_text("utf-8"))
    assert installed.pop("onnxruntime") == tested["onnxruntime-gpu"]
    assert installed == {name: tested[name] for name in installed}
    assert not {"torch", "onnxruntime-gpu", "pyarrow", "onnxscript"} & installed.keys()


def test_every_option_is_one_that_triton_knows() -> None:
    (command,) = re.findall("^x-triton:.*?  healthcheck:", COMPOSE, re.MULTILINE | re.DOTALL)
    options = set(re.findall(r"(?<= )--[a-z-]+", command))
    assert {"--load-model", "--grpc-restricted-protocol"} <= options
    assert options <= options_of_triton()


@pytest.mark.parametrize("profile", [*SERVERS, "monitoring"])
def test_compose_reads_the_file_and_one_name_chooses_what_is_served_and_watched(
    compose: tuple[str, ...], profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_NAME", "waves")
    config = output_of(*compose, "--file", str(COMPOSE_FILE), "--profile", profile, "config")
    assert "sentiment" not in config
    assert "models/waves/ready" in config
    if profile in ("cpu", "gpu"):
        assert "--load-model=waves" in config
    else:
        assert "- waves" in config


def test_certificates_are_each_for_one_use_and_their_keys_for_one_user(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    client = {"ca.crt", "client.crt", "client.key"}
    assert files == {
        *("authority/ca.crt", "authority/ca.key", "triton/token"),
        *(f"gateway/{name}" for name in ("ca.crt", "server.crt", "server.key", "token")),
        *(f"{role}/{name}" for role in ("canary", "client") for name in client),
        "client/token",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_uid for role in ("gateway", "canary", "triton") for path in (folder / role).iterdir()} == {
        1000
    }
    authority = str(folder / "authority" / "ca.crt")
    for name, good, bad in (
        ("gateway/server.crt", "sslserver", "sslclient"),
        ("client/client.crt", "sslclient", "sslserver"),
    ):
        check = ("openssl", "verify", "-x509_strict", "-CAfile", authority, "-purpose")
        assert run(*check, good, str(folder / name)).returncode == 0
        assert "unsuitable certificate purpose" in run(*check, bad, str(folder / name)).stderr


def test_certificates_are_renewed_without_a_new_authority_or_token(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    make_secrets(folder)
    kept = {path for path, text in before.items() if path.read_text() == text}
    assert {path.name for path in kept} == {"ca.crt", "ca.key", "token"}
    assert {path.name for path in before.keys() - kept} == {"server.crt", "server.key", "client.crt", "client.key"}


def test_certificates_are_not_renewed_by_another_authority(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    (folder / "authority" / "ca.key").unlink()
    before = (folder / "gateway" / "server.crt").read_text()
    refused = run(str(FOLDER / "certificates.sh"), str(folder))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"certificates.sh: {folder}/authority/ca.key is not there. Bring it back;")
    assert (folder / "gateway" / "server.crt").read_text() == before


def test_the_dashboard_asks_the_source_that_is_provisioned_beside_it() -> None:
    folder = FOLDER / "monitoring" / "grafana"
    panels = json.loads((folder / "dashboards" / "pipeline.json").read_text("utf-8"))["panels"]
    (source,) = re.findall(r"uid: (\w+)", (folder / "datasources" / "prometheus.yml").read_text("utf-8"))
    assert {panel["datasource"]["uid"] for panel in panels} == {source}
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))


def test_every_alert_has_its_page_in_the_runbook() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    names = re.findall(r"- alert: (\w+)", ALERTS)
    assert re.findall(r"runbook: deploy/README.md#(\w+)", ALERTS) == [name.lower() for name in names]
    assert [name for name in names if f"### {name}\n" not in readme] == []
