"""The files of deploy/kubernetes: as they lie there, and as kustomize makes them."""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.deployment import FOLDER, run

KUBERNETES = FOLDER / "kubernetes"
OVERLAYS = ("cpu", "gpu")
PATCHES = {"components/gpu/deployment.yaml", "components/image-volume/deployment.yaml"}
NO_RESOURCES = {"components/monitoring/prometheus-adapter.yaml"}

Resource = dict[str, Any]


def has_kustomize() -> bool:
    return shutil.which("kubectl") is not None


def written() -> list[tuple[str, Resource]]:
    """Return every resource with the file that it stands in; patches are none by themselves."""
    names = [str(path.relative_to(KUBERNETES)) for path in sorted(KUBERNETES.rglob("*.yaml"))]
    return [
        (name, resource)
        for name in names
        if not name.endswith("kustomization.yaml") and name not in PATCHES | NO_RESOURCES
        for resource in yaml.safe_load_all((KUBERNETES / name).read_text("utf-8"))
    ]


@cache
def rendered(folder: Path) -> list[Resource]:
    """Return what kustomize makes of a folder."""
    made = run("kubectl", "kustomize", str(folder))
    assert made.returncode == 0, made.stderr
    assert "deprecated" not in made.stderr
    return list(yaml.safe_load_all(made.stdout))


def one(resources: list[Resource], kind: str, name: str = "triton") -> Resource:
    (found,) = [item for item in resources if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found
