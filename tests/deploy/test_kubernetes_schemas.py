"""Every resource is what the published schemas say, of the oldest and the newest Kubernetes that we name."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import KUBERNETES, OVERLAYS, Resource, has_kustomize, one, rendered, written
from tests.deploy.schemas import errors

pytestmark = pytest.mark.network

OLDEST, IMAGE_VOLUMES, NEWEST = "1.30", "1.33", "1.37"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(("file", "resource"), written(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_resource_as_written_fits_its_schema(file: str, resource: Resource, version: str) -> None:
    assert errors(resource, version) == []


@pytest.mark.skipif(not has_kustomize(), reason="kubectl is not installed (Debian: kubernetes-client)")
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_as_rendered_fits_its_schema(overlay: str, version: str) -> None:
    resources = rendered(KUBERNETES / "overlays" / overlay)
    assert len(resources) == 10
    for resource in resources:
        assert errors(resource, version) == [], resource["metadata"]["name"]


@pytest.mark.skipif(not has_kustomize(), reason="kubectl is not installed (Debian: kubernetes-client)")
def test_the_repository_as_an_image_fits_the_schema_since_there_are_image_volumes(tmp_path: Path) -> None:
    above = "../" * len(tmp_path.parts[1:])
    folder = f"{above}{KUBERNETES.relative_to('/')}"
    content = {"resources": [f"{folder}/base"], "components": [f"{folder}/components/image-volume"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    deployment = one(rendered(tmp_path), "Deployment")
    models = deployment["spec"]["template"]["spec"]["volumes"][0]
    assert (models["name"], sorted(models)) == ("models", ["image", "name"])
    assert errors(deployment, IMAGE_VOLUMES) == []
    assert errors(deployment, OLDEST)


def rename(resource: Resource, place: str, new: str) -> None:
    *parents, old = place.split(".")
    for name in parents:
        resource = resource[int(name) if name.isdigit() else name]
    resource[new] = resource.pop(old)


HOSTILE: dict[str, tuple[str, Callable[[Resource], None]]] = {
    "a probe": ("Deployment", lambda it: rename(it, "spec.template.spec.containers.0.readinessProbe", "readyProbe")),
    "a volume": ("Deployment", lambda it: rename(it, "spec.template.spec.volumes.1.secret.secretName", "name")),
    "a number": ("PodDisruptionBudget", lambda it: it["spec"].update(maxUnavailable=[1])),
    "a metric": ("HorizontalPodAutoscaler", lambda it: rename(it, "spec.metrics.0.pods.target.averageValue", "value2")),
    "an endpoint": ("ServiceMonitor", lambda it: rename(it, "spec.endpoints.0.interval", "every")),
    "a selector": ("ServiceMonitor", lambda it: it["spec"].pop("selector")),
    "a rule": ("PrometheusRule", lambda it: rename(it, "spec.groups.0.rules.0.expr", "expression")),
    "a predictor": ("InferenceService", lambda it: rename(it, "spec.predictor.minReplicas", "replicas")),
    "a format": ("InferenceService", lambda it: it["spec"]["predictor"]["model"].update(protocolVersion=2)),
    "a core type": ("InferenceService", lambda it: rename(it, "spec.predictor.model.env.0.valueFrom", "from")),
}


@pytest.mark.parametrize(("kind", "damage"), HOSTILE.values(), ids=HOSTILE)
def test_the_schemas_refuse_what_no_cluster_takes(kind: str, damage: Callable[[Resource], None]) -> None:
    damaged = copy.deepcopy(next(resource for _, resource in written() if resource["kind"] == kind))
    assert errors(damaged, NEWEST) == []
    damage(damaged)
    assert len(errors(damaged, NEWEST)) >= 1
