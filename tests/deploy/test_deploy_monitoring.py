"""The monitoring beside a real deployment: it sees all that it asks for, and what goes wrong fires, and clears."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from pipeline.client import Client
from tests.deploy.conftest import MODEL
from tests.deploy.deployment import FOLDER, Deployment, eventually, output_of, run

pytestmark = pytest.mark.docker

MONITORING = FOLDER / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "pipeline.json").read_text("utf-8"))
RULES = (MONITORING / "alerts.yml").read_text("utf-8")
SHOWN = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
NEEDS_GPU = {"nv_gpu_utilization"}
FIRES_WITHIN_SECONDS = 60  # a rate over the last 30 s is part of a rule


def asked(deployment: Deployment, path: str, service: str = "PROMETHEUS") -> Any:
    with urlopen(f"http://127.0.0.1:{deployment.settings[service + '_PORT']}{path}", timeout=10) as answer:
        return json.load(answer)


def query(deployment: Deployment, expression: str) -> list[dict[str, Any]]:
    return asked(deployment, f"/api/v1/query?query={quote(expression)}")["data"]["result"]


def health_of_targets(deployment: Deployment) -> dict[str, str]:
    targets = asked(deployment, "/api/v1/targets")["data"]["activeTargets"]
    return {target["labels"]["job"]: target["health"] for target in targets}


def firing(deployment: Deployment) -> set[str]:
    alerts = asked(deployment, "/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def told(deployment: Deployment) -> set[str]:
    """Return what Alertmanager has been told."""
    return {alert["labels"]["alertname"] for alert in asked(deployment, "/api/v2/alerts", "ALERTMANAGER")}


def promtool(deployment: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    folders = (f"{MONITORING}:/monitoring:ro", f"{Path(__file__).with_name('alerts_test.yml')}:/alerts_test.yml:ro")
    volumes = [f"--volume={folder}" for folder in folders]
    return run(
        "docker", "run", "--rm", *volumes, "--entrypoint=promtool", deployment.settings["PROMETHEUS_IMAGE"], *words
    )


def send(deployment: Deployment, signal: str, words: str) -> None:
    """Send a signal to the processes of the server's container that have these words in their command line."""
    script = (
        "import os, pathlib, signal, sys\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    pid = int(path.parent.name)\n"
        "    if pid not in (1, os.getpid()) and sys.argv[2] in path.read_text().replace('\\0', ' '):\n"
        "        os.kill(pid, signal.Signals['SIG' + sys.argv[1]])\n"
        "        print(pid)"
    )
    sent = deployment.execute("light", "python", "-c", script, signal, words)
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout, words


@pytest.fixture
def calm(watched: Deployment) -> Deployment:
    """A deployment that is watched, and of which there is nothing to complain."""
    with Client(watched.url, MODEL, access=watched.caller) as client:  # rates need something to count
        for _ in range(20):
            client.classify(["a lovely film"])
    eventually(lambda: not firing(watched), 60, lambda: f"{firing(watched)} {watched.log('canary')}")
    eventually(lambda: query(watched, "pipeline_canary_success == 1"), 30, lambda: watched.log("canary"))
    return watched


def test_promtool_finds_no_fault_with_configuration_and_rules(deployment: Deployment) -> None:
    checked = promtool(deployment, "check", "config", "/monitoring/prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{RULES.count('- alert:')} rules found" in checked.stdout


def test_each_alert_fires_for_what_it_is_about_and_only_then(deployment: Deployment) -> None:
    tested = promtool(deployment, "test", "rules", "/alerts_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_prometheus_reaches_all_that_it_is_told_to_watch(calm: Deployment) -> None:
    jobs = ("triton", "gateway", "canary")
    eventually(lambda: health_of_targets(calm) == dict.fromkeys(jobs, "up"), 20, lambda: str(health_of_targets(calm)))
    assert len(asked(calm, "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]) == 1


@pytest.mark.parametrize("expression", SHOWN)
def test_the_dashboard_has_data_for(calm: Deployment, expression: str) -> None:
    if expression in NEEDS_GPU:
        assert query(calm, expression) == []
    else:
        eventually(lambda: query(calm, expression), 20)
        assert all(row["value"][1] != "NaN" for row in query(calm, expression))


def test_every_rule_is_evaluated_and_every_metric_in_it_exists(calm: Deployment) -> None:
    (group,) = asked(calm, "/api/v1/rules")["data"]["groups"]
    eventually(
        lambda: {rule["health"] for rule in asked(calm, "/api/v1/rules")["data"]["groups"][0]["rules"]} == {"ok"}, 20
    )
    selectors = set(
        re.findall(r"\b(?:up|(?:pipeline|nv|haproxy)_\w+)(?:{[^}]*})?", " ".join(r["query"] for r in group["rules"]))
    )
    assert len(selectors) >= 9
    assert [selector for selector in selectors if not query(calm, selector)] == []


def test_the_canary_shows_what_is_served_and_until_when_the_certificate_is_good(calm: Deployment) -> None:
    with Client(calm.url, MODEL, access=calm.caller) as client:
        assert client.classify(["a lovely film"])
    (version,) = query(calm, "pipeline_canary_served_version")
    assert (version["metric"]["model"], version["metric"]["job"]) == (MODEL, "canary")
    assert version["value"][1] == max(
        (path.name for path in Path(calm.settings["MODEL_REPOSITORY"], MODEL).iterdir() if path.is_dir()), key=int
    )
    (expiry,) = query(calm, "pipeline_canary_certificate_expiry_timestamp_seconds")
    date = output_of(
        "openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(calm.secrets / "gateway/server.crt")
    )
    ends = time.strftime("notAfter=%Y-%m-%d %H:%M:%SZ\n", time.gmtime(float(expiry["value"][1])))
    assert ends == date


def test_a_server_that_is_stopped_fires_and_clears_when_it_is_back(calm: Deployment) -> None:
    calm.compose("light", "stop", "light")
    down = {"ServerDown", "GatewayDown", "CanaryFailing"}
    eventually(lambda: firing(calm) >= down, FIRES_WITHIN_SECONDS, lambda: str(firing(calm)))
    eventually(lambda: down <= told(calm), 20, lambda: str(told(calm)))
    assert "BackendDead" not in firing(calm)
    calm.start("light", "light")
    eventually(lambda: not firing(calm), 60, lambda: str(firing(calm)))


def test_a_dead_backend_behind_a_triton_that_is_up_fires_and_clears_when_it_lives(calm: Deployment) -> None:
    """`pipeline serve` would heal it in seconds: it is held still meanwhile."""
    try:
        send(calm, "STOP", "-m pipeline serve")
        send(calm, "KILL", "triton_python_backend_stub")
        eventually(lambda: "BackendDead" in firing(calm), FIRES_WITHIN_SECONDS, lambda: calm.log("canary"))
        assert query(calm, 'up{job="triton"}')[0]["value"][1] == "1"
        assert "ServerDown" not in firing(calm)
    finally:
        send(calm, "CONT", "-m pipeline serve")
    eventually(lambda: not firing(calm), 60, lambda: f"{firing(calm)} {calm.log('light')}")
