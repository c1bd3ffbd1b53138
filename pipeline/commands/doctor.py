"""``pipeline doctor``: show what is there, what is missing and what to do; or what a load would need."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.capacity import Demand, Plan


@click.command("doctor", short_help="Look at this machine: what is there, what is missing, what to do.")
@click.option("--plan", "demand", metavar="KEY=VALUE,…", help="Plan machines instead: rate=500,p99=50ms,tokens=200.")
@click.option(
    "--cost", type=click.Path(path_type=Path), default=Path("cost.json"), help="What `bench cost` wrote; for --plan."
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings, or the plan, as JSON.")
def command(demand: str | None, cost: Path, as_json: bool) -> None:
    """Look at this machine: what is there, what is missing, what to do.

    The exit code is 1 when something is missing that the pipeline cannot do without here.

    With --plan: how many machines, and how many instances and threads on each, answer so many texts a second (rate)
    within a bound (p99). Also: tokens of a text (by default, the lengths of the run's own texts), cores and memory of a
    machine (as measured; no bound), overhead (processor time of the server itself for a request; none). The exit code
    is 1 when no number of machines will do.

    \b
    pipeline doctor
    pipeline doctor --plan rate=500,p99=50ms,tokens=200,cores=8,memory=16GiB,overhead=300us --cost cost.json
    """
    if demand is not None:
        _show_plan(demand, cost, as_json)
        return
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


def _show_plan(text: str, path: Path, as_json: bool) -> None:
    from pipeline.capacity import Cost, make_plan, parse_demand

    demand = parse_demand(text)
    plan = make_plan(Cost.load(path), demand)
    click.echo(json.dumps(dataclasses.asdict(plan), indent=2) if as_json else plan_table(demand, plan))


def plan_table(demand: "Demand", plan: "Plan") -> str:
    """Return a plan as lines, the last one the command that publishes it."""
    lengths = "tokens each" if demand.tokens else "tokens in the median, as the run's own"
    server = "" if demand.overhead else ", the server's own work (overhead=…)"
    instance, limit = plan.instance_bytes / 2**20, plan.memory_limit / 2**30
    rows = {
        "wanted": f"{demand.rate:g} texts/s within {demand.p99 * 1e3:g} ms (p99), {plan.tokens} {lengths}",
        "machines": f"{plan.machines} of {plan.cores} core(s), one of them to spare",
        "instances": f"{plan.instances} of {plan.threads} thread(s) on each",
        "a machine": f"{plan.rate_within_p99:.0f} texts/s in time, {plan.rate_at_limit:.0f} with all batches full",
        "limited by": plan.limited_by,
        "expected": f"p50 {plan.p50 * 1e3:.1f} ms, p99 {plan.p99 * 1e3:.1f} ms, {plan.batch:.1f} texts a batch, "
        f"at {plan.rate_planned:.0f} texts/s on each but the spare",
        "time goes to": ", ".join(f"{name} {share:.0%}" for name, share in list(plan.shares.items())[:3]),
        "memory": f"{instance:.0f} MiB an instance, {limit:.2f} GiB a machine at most",
        "queue": f"{plan.max_queue_size} requests on each; more could not be answered in time",
        "cost model": f"missed calls that it never saw by × {plan.missed:.2f} in the median",
        "not counted": f"the network, the client{server}",
    }
    settings = {"instances": plan.instances, "threads": plan.threads, "max_queue_size": plan.max_queue_size}
    options = " ".join(f"--set publish.{key}={value}" for key, value in settings.items())
    lines = [f"{name:<13} {text}" for name, text in rows.items()]
    return "\n".join([*lines, f"pipeline publish RUN {options}"])
