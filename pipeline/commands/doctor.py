"""``pipeline doctor``: show what is there, what is missing and what to do."""

import dataclasses
import json

import click


@click.command("doctor", short_help="Look at this machine: what is there, what is missing, what to do.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(as_json: bool) -> None:
    """Look at this machine: what is there, what is missing, what to do.

    The exit code is 1 when something is missing that the pipeline cannot do without here.

    \b
    pipeline doctor
    """
    from pipeline.doctor import Finding, examine

    def show(finding: Finding) -> None:
        state = "ok" if finding.is_ok else "MISSING" if finding.is_required else "without"
        click.echo(f"{state:8} {finding.name:17} {finding.found}")
        if finding.advice:
            click.echo(f"{'':26} {finding.advice}")

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            show(finding)
    is_ok = all(finding.is_ok for finding in findings if finding.is_required)
    if as_json:
        click.echo(json.dumps({"ok": is_ok, "findings": list(map(dataclasses.asdict, findings))}, indent=2))
    raise SystemExit(0 if is_ok else 1)
