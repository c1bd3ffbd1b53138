"""The published schemas of what a cluster is sent, strict: a field that nobody knows is an error.

Kubernetes' and KServe's are read inside wheels of the package registry, which are pinned by their bytes and never
installed; the Prometheus Operator's are those of the package `cloudcoil-models-prometheus-operator`.
"""

import ast
import json
import re
import zipfile
from functools import cache
from typing import Any

from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from pipeline.data.catalog import Package
from pipeline.data.download import download

KUBERNETES = Package(
    "kubernetes-validate",
    "1.37.0",
    "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
    "Apache-2.0",
)
KSERVE = Package("kserve", "0.21.0", "df9bc5888704d9085015e08f1a8fced5ff0698f3becc6212d4e7b8234c71623b", "Apache-2.0")
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
PLAIN = {"bool": "boolean", "int": "integer", "str": "string", "datetime": "string", "object": "object"}

Schema = dict[str, Any]


def errors(resource: Schema, version: str) -> list[str]:
    """Return what is wrong with a resource for a version of Kubernetes, each with its place."""
    group = resource["apiVersion"].rpartition("/")[0]
    if group == "serving.kserve.io":
        schema = {"$ref": "#/$defs/V1beta1InferenceService", "$defs": _kserve_types()}
    elif group == "monitoring.coreos.com":
        schema = _strict(getattr(prometheus_operator, resource["kind"]).model_json_schema(by_alias=True))
    else:
        schema = _kubernetes(version, resource["apiVersion"], resource["kind"])
    registry = Registry().with_resource(DEFINITIONS, Resource.from_contents(_kubernetes_file(version, "_definitions")))
    found = Draft202012Validator(schema, registry=registry).iter_errors(resource)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def _kubernetes(version: str, api_version: str, kind: str) -> Schema:
    group, _, number = api_version.rpartition("/")
    parts = [kind.lower(), *([group.split(".")[0]] if group else []), number]
    return _kubernetes_file(version, "-".join(parts))


@cache
def _kubernetes_file(version: str, name: str) -> Schema:
    with zipfile.ZipFile(download(KUBERNETES)) as wheel:
        member = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict/{name}.json"
        return json.loads(wheel.read(member))


@cache
def _kserve_types() -> Schema:
    """Return KServe's types by name, as its OpenAPI generator wrote them into the sources of its Python package."""
    schemas: Schema = {}
    with zipfile.ZipFile(download(KSERVE)) as wheel:
        for member in wheel.namelist():
            if re.fullmatch(r"kserve/models/v1\w+\.py", member):
                classes = [node for node in ast.parse(wheel.read(member)).body if isinstance(node, ast.ClassDef)]
                schemas |= {node.name: _kserve_type(node) for node in classes}
    return schemas


def _kserve_type(node: ast.ClassDef) -> Schema:
    values = {
        line.targets[0].id: ast.literal_eval(line.value)
        for line in node.body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
    }
    types, names = values["openapi_types"], values["attribute_map"]
    properties = {names[key]: _openapi(kind) for key, kind in types.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _openapi(kind: str) -> Schema:
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _openapi(match[1])}
    if match := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _openapi(match[1])}
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if kind == "V1ObjectMeta":
        return {"$ref": f"{DEFINITIONS}#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    if match := re.fullmatch(r"V1([A-Z]\w+)", kind):
        return {"$ref": f"{DEFINITIONS}#/$defs/io.k8s.api.core.v1.{match[1]}"}
    if re.fullmatch(r"V1(alpha|beta)\d[A-Z]\w+|Knative\w+", kind):
        return {"$ref": f"#/$defs/{kind}"}
    return {}  # of other projects; none of ours uses one


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema and "additionalProperties" not in schema else {}
    return {key: _strict(value) for key, value in schema.items()} | closed
