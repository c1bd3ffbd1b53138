"""What the package is made of, and what is known against it: the bill of materials, and the audit's three ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from threading import Thread
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.audit import CONSTRAINTS, audit
from deploy.sbom import direct_requirements, needed
from tests.deploy.deployment import FOLDER
from tests.deploy.test_deploy_files import pins

UNPINNED = {"pip", "setuptools"}  # part of every environment, and of none of our choosing
ADVISORY = {
    "id": "PYSEC-2026-1",
    "modified": "2026-11-01T00:00:00Z",
    "summary": "a flaw",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "click"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


@pytest.fixture(scope="module")
def bill() -> str:
    return made_bill()


def made_bill() -> str:
    made = subprocess.run([sys.executable, FOLDER / "sbom.py"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_the_bill_is_valid_cyclonedx(bill: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "CycloneDX", "parts": []}') is not None


def test_the_bill_holds_every_dependency_in_its_pinned_version_and_no_tool(bill: str) -> None:
    parts = {canonicalize_name(part["name"]): part for part in json.loads(bill)["components"]}
    direct = {canonicalize_name(it.name) for it in direct_requirements() if it.marker is None or it.marker.evaluate()}
    assert {"click", "torch", "tritonclient", "nvidia-pytriton", "optuna", "model-signing"} <= direct
    assert direct <= parts.keys()
    assert {"aiohttp", "geventhttpclient"} <= parts.keys()  # nvidia-pytriton asks for tritonclient[grpc,http]
    tested = {canonicalize_name(name): pin for name, pin in pins(CONSTRAINTS.read_text("utf-8")).items()}
    assert parts.keys() - tested.keys() <= UNPINNED
    for name, part in parts.items():
        assert part["version"] == version(name)
        assert name in UNPINNED or part["version"].partition("+")[0] == tested[name]
        assert canonicalize_name(part["purl"].removeprefix("pkg:pypi/").partition("@")[0]) == name
    assert not {"pytest", "ruff", "mypy", "hypothesis", "pip-audit", "cyclonedx-bom"} & parts.keys()


def test_the_bill_says_what_needs_what(bill: str) -> None:
    content = json.loads(bill)
    links = {link["ref"]: link.get("dependsOn", []) for link in content["dependencies"]}
    root = content["metadata"]["component"]["bom-ref"]
    reached, waiting = set(), [root]
    while waiting:
        reference = waiting.pop()
        if reference not in reached:
            reached.add(reference)
            waiting += links[reference]
    assert {part["bom-ref"] for part in content["components"]} <= reached


def test_the_same_environment_gives_the_same_bytes(bill: str) -> None:
    assert made_bill() == bill


def test_a_dependency_that_is_not_installed_is_named() -> None:
    with pytest.raises(PackageNotFoundError, match="no-such-package"):
        needed([Requirement("click"), Requirement("no-such-package[extra]>=1")])


class Service(BaseHTTPRequestHandler):
    """A vulnerability service that speaks OSV's protocol and knows one advisory, about click."""

    knows = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_hit = self.knows and asked["package"]["name"] == "click"
        answer = json.dumps({"vulns": [ADVISORY]} if is_hit else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    handler = type("Handler", (Service,), {"knows": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield options(server.server_port)
        server.shutdown()
        thread.join()


def options(port: int) -> list[str]:
    return ["--vulnerability-service=osv", f"--osv-url=http://127.0.0.1:{port}/"]


@pytest.mark.parametrize("service", [True], indirect=True)
def test_the_audit_names_what_is_known_and_ends_with_3(service: list[str], capsys: Any) -> None:
    assert audit(service) == 3
    click = pins(CONSTRAINTS.read_text("utf-8"))["click"]
    assert capsys.readouterr().out == (
        f"audit: known vulnerabilities: 1\n  click {click}: PYSEC-2026-1, mended in 99.1\n"
    )


@pytest.mark.parametrize("service", [False], indirect=True)
def test_the_audit_ends_with_0_only_if_it_was_told_about_every_package(service: list[str], capsys: Any) -> None:
    assert audit(service) == 0
    count = len(pins(CONSTRAINTS.read_text("utf-8")))
    assert capsys.readouterr().out == f"audit: {count} packages, none with a known vulnerability\n"


def test_an_audit_that_could_not_ask_says_so_and_ends_with_1(capsys: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as closed:
        port = closed.server_port
    assert audit([*options(port), "--timeout=5"]) == 1
    assert capsys.readouterr().out.startswith("audit: skipped: could not ask: ")
