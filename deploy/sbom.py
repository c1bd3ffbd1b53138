"""The software bill of materials: CycloneDX of all that the package needs when it runs, as it is installed here.

    python deploy/sbom.py > sbom.json

It holds the package's dependencies and those of every extra but `dev`, and what these need in turn; the tools that test
it lie in the same environment, and are left out. The same environment gives the same bytes.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
DEVELOPMENT = "dev"


def direct_requirements(project: Path = PROJECT) -> list[Requirement]:
    """Return what the package asks for by itself, with its extras."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    extras = table["optional-dependencies"]
    lines = [*table["dependencies"], *(line for name in extras if name != DEVELOPMENT for line in extras[name])]
    return [Requirement(line) for line in lines]


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """Return the canonical names of all packages that some requirements come to on this machine.

    Raises:
        PackageNotFoundError: one of them is not installed.
    """
    waiting, seen = [requirement for requirement in requirements if _applies(requirement)], set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            wanted = (canonicalize_name(requirement.name), extra)
            if wanted not in seen:
                seen.add(wanted)
                waiting += [it for line in requires(requirement.name) or () if _applies(it := Requirement(line), extra)]
    return {name for name, _ in seen}


def without_the_rest(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return a bill of materials with the named components alone."""
    kept = [part for part in bill["components"] if canonicalize_name(part["name"]) in names]
    references = {part["bom-ref"] for part in kept} | {bill["metadata"]["component"]["bom-ref"]}
    links = [
        link | {"dependsOn": [to for to in link["dependsOn"] if to in references]} if "dependsOn" in link else link
        for link in bill["dependencies"]
        if link["ref"] in references
    ]
    return bill | {"components": kept, "dependencies": links}


def main() -> None:
    """Write the bill to the standard output."""
    try:
        names = needed(direct_requirements())
    except PackageNotFoundError as error:
        sys.exit(f"sbom: {error.name} is not installed, so its version is not known. Run `make install`.")
    options = ["--pyproject", str(PROJECT), "--output-reproducible", "--no-validate"]  # takes long; the tests do it
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *options, sys.executable]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"sbom: {(made.stderr.strip().splitlines() or ['cyclonedx-py said nothing'])[-1]}")
    json.dump(without_the_rest(json.loads(made.stdout), names), sys.stdout, indent=2)
    sys.stdout.write("\n")


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


if __name__ == "__main__":
    main()
