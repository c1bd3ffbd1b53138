"""The resources fit one another, and no container has more rights than it needs."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import KUBERNETES, OVERLAYS, Resource, has_kustomize, one, rendered, written
from tests.wheel import options_of_triton

README = (KUBERNETES / "README.md").read_text("utf-8")
NEWER_THAN_THE_WHEEL = {"--http-max-input-size"}  # 26.07 knows it and 24.10 does not
ALERTS = KUBERNETES.parent / "monitoring" / "alerts.yml"
COMPOSE_IMAGE = "nvcr.io/nvidia/tritonserver:26.07-py3"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}


@pytest.fixture(params=["as written", *OVERLAYS])
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    if request.param == "as written":
        return [resource for _, resource in written()]
    if not has_kustomize():
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    return rendered(KUBERNETES / "overlays" / request.param)


@pytest.fixture
def pod(resources: list[Resource]) -> dict[str, Any]:
    return one(resources, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return container


def options(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.split("=", 1) if "=" in argument else (argument, "") for argument in container["args"])


def test_every_selector_finds_the_pods(resources: list[Resource]) -> None:
    deployment = one(resources, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    spread = [item["labelSelector"] for item in deployment["template"]["spec"]["topologySpreadConstraints"]]
    policies = [one(resources, "NetworkPolicy", name)["spec"]["podSelector"] for name in ("callers", "monitoring")]
    budget = one(resources, "PodDisruptionBudget")["spec"]["selector"]
    for selector in (deployment["selector"], budget, *spread, *policies):
        assert selector["matchLabels"].items() <= labels
        assert selector["matchLabels"]
    assert one(resources, "Service")["spec"]["selector"].items() <= labels
    monitored = one(resources, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= one(resources, "Service")["metadata"]["labels"].items()
    assert one(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "triton"


def test_every_port_that_is_named_is_one_that_triton_listens_on(
    resources: list[Resource], container: dict[str, Any]
) -> None:
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == PORTS
    service = one(resources, "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == {"grpc": 8001, "metrics": 8002}
    (endpoint,) = one(resources, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["ports"]}
    for name in ("http", "grpc", "metrics"):
        assert options(container)[f"--{name}-address"] == "0.0.0.0"  # noqa: S104
        assert f"--{name}-port" not in options(container)


def test_readiness_asks_the_model_that_is_loaded_and_liveness_the_server(container: dict[str, Any]) -> None:
    model = options(container)["--load-model"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"port": "http", "path": f"/v2/models/{model}/ready"}
    assert container["livenessProbe"]["httpGet"] == {"port": "http", "path": "/v2/health/live"}
    assert model == "sentiment"


@pytest.mark.skipif(not has_kustomize(), reason="kubectl is not installed (Debian: kubernetes-client)")
def test_one_line_chooses_the_model(tmp_path) -> None:
    for path in (KUBERNETES / "base").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("model=sentiment]", "model=waves]"))
    resources = rendered(tmp_path)
    (container,) = one(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert options(container)["--load-model"] == "waves"
    assert "sentiment" not in yaml.safe_dump(container)
    assert "waves" in container["startupProbe"]["httpGet"]["path"]
    assert not [item for item in resources if item["kind"] == "ConfigMap"]


def test_a_pod_is_given_longer_to_end_than_triton_takes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    triton = int(options(container)["--exit-timeout-secs"])
    assert pod["terminationGracePeriodSeconds"] >= pause + triton + 10


def test_who_is_not_known_is_refused(container: dict[str, Any]) -> None:
    given = options(container)
    assert given["--grpc-use-ssl-mutual"] == given["--grpc-use-ssl"] == "true"
    grpc, http = (given[f"--{name}"] for name in ("grpc-restricted-protocol", "http-restricted-api"))
    for restriction in (grpc, http):
        assert restriction.endswith(":pipeline-token=$(PIPELINE_TOKEN)")
    dangerous = {"shared-memory", "model-repository", "statistics", "trace", "logging"}
    assert set(grpc.partition(":")[0].split(",")) == dangerous
    assert set(http.partition(":")[0].split(",")) == dangerous | {"inference", "metadata", "model-config"}
    assert [variable["name"] for variable in container["env"]] == ["PIPELINE_TOKEN"]
    assert given["--model-control-mode"] == "explicit"


def test_network_policies_let_in_named_pods_alone_and_nothing_out(resources: list[Resource]) -> None:
    everybody = one(resources, "NetworkPolicy", "deny-all")["spec"]
    assert everybody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = {}
    for policy in [item for item in resources if item["kind"] == "NetworkPolicy"]:
        assert "egress" not in policy["spec"]
        for rule in policy["spec"].get("ingress", []):
            for source in rule["from"]:
                assert source["namespaceSelector"]["matchLabels"]
                assert source["podSelector"]["matchLabels"]
            allowed[policy["metadata"]["name"]] = [port["port"] for port in rule["ports"]]
    assert allowed == {"callers": ["grpc"], "monitoring": ["metrics"]}  # http: the kubelet alone


def test_every_volume_is_mounted_and_what_triton_reads_is_read_only(pod, container) -> None:
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert {name for name, mount in mounts.items() if mount.get("readOnly")} == {"models", "tls"}
    assert volumes["models"]["persistentVolumeClaim"]["readOnly"]
    assert (mounts["shm"]["mountPath"], volumes["shm"]["emptyDir"]["medium"]) == ("/dev/shm", "Memory")  # noqa: S108
    assert all(volumes[name]["emptyDir"]["sizeLimit"] for name in ("tmp", "shm"))
    given = options(container)
    assert given["--model-repository"] == mounts["models"]["mountPath"]
    for option, file in (("server-cert", "tls.crt"), ("server-key", "tls.key"), ("root-cert", "ca.crt")):
        assert given[f"--grpc-{option}"] == f"{mounts['tls']['mountPath']}/{file}"


def test_the_readme_makes_all_that_the_pods_ask_for(pod: dict[str, Any], container: dict[str, Any]) -> None:
    (token,) = [item["valueFrom"]["secretKeyRef"] for item in container["env"]]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert re.search(rf"create secret generic {token['name']} .*--from-file={token['key']}=", README)
    made = re.search(rf"create secret generic {volumes['tls']['secret']['secretName']} (.*\n.*)", README)
    assert made
    for option in ("server-cert", "server-key", "root-cert"):
        assert f"--from-file={options(container)[f'--grpc-{option}'].rpartition('/')[2]}=" in made[1]
    assert f"`{volumes['models']['persistentVolumeClaim']['claimName']}`" in README
    for label in ("triton-callers=allowed", "triton-caller: allowed"):
        assert label in README


def hardened(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert resources["requests"]["cpu"]


def test_every_container_is_hardened(resources: list[Resource], pod, container) -> None:
    hardened(pod, container)
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & pod.keys()
    assert volumes_of_kind(pod, "hostPath") == []
    for item in resources:
        if item["kind"] == "InferenceService":
            hardened(item["spec"]["predictor"], item["spec"]["predictor"]["model"])
    labels = one(resources, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def volumes_of_kind(pod: dict[str, Any], kind: str) -> list[str]:
    return [volume["name"] for volume in pod["volumes"] if kind in volume]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_is_the_one_of_compose(overlay: str) -> None:
    if not has_kustomize():
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    (container,) = one(rendered(KUBERNETES / "overlays" / overlay), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"] == COMPOSE_IMAGE
    assert COMPOSE_IMAGE in (KUBERNETES.parent / "compose.yaml").read_text("utf-8")
    (kserve,) = [item for _, item in written() if item["kind"] == "InferenceService"]
    assert container["image"].endswith(f":{kserve['spec']['predictor']['model']['runtimeVersion']}")


def test_the_autoscaler_reads_the_metric_that_the_adapter_makes(resources: list[Resource]) -> None:
    (metric,) = one(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]
    adapter = yaml.safe_load((KUBERNETES / "components/monitoring/prometheus-adapter.yaml").read_text("utf-8"))
    (rule,) = adapter["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].partition("{")[0] in rule["metricsQuery"]
    assert {"namespace", "pod"} == rule["resources"]["overrides"].keys()


@pytest.mark.skipif(not has_kustomize(), reason="kubectl is not installed (Debian: kubernetes-client)")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_with_an_autoscaler_nobody_else_says_how_many_pods_there_are(overlay: str) -> None:
    resources = rendered(KUBERNETES / "overlays" / overlay)
    assert "replicas" not in one(resources, "Deployment")["spec"]
    assert one(resources, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2


@pytest.mark.skipif(not has_kustomize(), reason="kubectl is not installed (Debian: kubernetes-client)")
def test_only_the_gpu_overlay_asks_for_a_gpu() -> None:
    asked = {}
    for overlay in OVERLAYS:
        deployment = one(rendered(KUBERNETES / "overlays" / overlay), "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        asked[overlay] = container["resources"]["limits"].get("nvidia.com/gpu")
    assert asked == {"cpu": None, "gpu": "1"}


def test_every_option_is_one_that_triton_knows(container: dict[str, Any]) -> None:
    (kserve,) = [item for _, item in written() if item["kind"] == "InferenceService"]
    used = options(container).keys() | options(kserve["spec"]["predictor"]["model"]).keys()
    assert used - options_of_triton() == NEWER_THAN_THE_WHEEL


def test_prometheus_calls_its_job_as_the_alerts_do(resources: list[Resource]) -> None:
    """With `jobLabel` the job's name is the Service's label."""
    label = one(resources, "ServiceMonitor")["spec"]["jobLabel"]
    job = one(resources, "Service")["metadata"]["labels"][label]
    rules = one(resources, "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert {name for rule in rules for name in re.findall(r'job="(\w+)"', rule["expr"])} == {job}


def test_the_alerts_are_those_of_compose_that_need_no_gateway_and_no_canary(resources: list[Resource]) -> None:
    (theirs,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    (ours,) = one(resources, "PrometheusRule")["spec"]["groups"]
    assert ours["rules"] == [rule for rule in theirs["rules"] if not re.search("gateway|haproxy|canary", rule["expr"])]
