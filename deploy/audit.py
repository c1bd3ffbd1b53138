"""Ask a vulnerability service about every pinned package, and tell "none known" from "could not ask".

    python deploy/audit.py [OPTIONS OF PIP-AUDIT, such as --ignore-vuln ID or --vulnerability-service osv]

pip-audit by itself reports "no known vulnerabilities" and exit code 0 for packages that the service did not know or
answer about. Exit codes here, as everywhere in this project: 0 asked about all, and none is known · 1 could not ask ·
3 some are known.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def audit(options: Sequence[str]) -> int:
    """Audit the constraints, say what came of it, and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    asked = subprocess.run(
        [*command, "--format=json", "--progress-spinner=off", *options], capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        reason = (asked.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return _tell(f"skipped: could not ask: {reason}", 1)
    known = [_line(package, it) for package in packages for it in package.get("vulns", ())]
    skipped = [package for package in packages if "skip_reason" in package]
    if known:
        return _tell("\n".join([f"known vulnerabilities: {len(known)}", *known]), 3)
    if skipped:
        reason = skipped[0]["skip_reason"]
        return _tell(f"skipped: could not ask about {len(skipped)} of {len(packages)} packages: {reason}", 1)
    return _tell(f"{len(packages)} packages, none with a known vulnerability", 0)


def _line(package: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    mended = ", ".join(vulnerability["fix_versions"]) or "no release yet"
    return f"  {package['name']} {package['version']}: {vulnerability['id']}, mended in {mended}"


def _tell(text: str, code: int) -> int:
    sys.stdout.write(f"audit: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))
