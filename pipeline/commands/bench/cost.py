"""`pipeline bench cost`: parse options, print speeds, prices and errors."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The run's data set, if it was moved.")
@click.option(
    "--variant",
    type=click.Choice(["fp32", "int8", "fp16"]),
    default="fp32",
    show_default=True,
    help="The exported model to measure.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of all calls, in turn.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("cost.json"),
    show_default=True,
    help="Where it is written.",
)
def cost(run: Path, data: Path | None, variant: str, device: str, rounds: int, out: Path) -> None:
    """Measure what a model costs on this machine, and how that grows; `pipeline doctor --plan` plans with it.

    Calls of a grid of batches, lengths and threads, and of untrained models of other sizes; prices are fitted to most
    of them and checked on those held out. Run it on a machine like those that will serve, with nothing else on it.

    \b
    pipeline bench cost runs/sentiment-001
    pipeline doctor --plan rate=500,p99=50ms,tokens=200
    """
    from pipeline.bench.cost import bench_cost
    from pipeline.files import write_json
    from pipeline.run_directory import RunDirectory
    from pipeline.runtime import CPU, CUDA

    out.parent.mkdir(parents=True, exist_ok=True)
    record = bench_cost(
        RunDirectory.open(run),
        data,
        variant=variant,
        provider=CUDA if device == "cuda" else CPU,
        rounds=rounds,
        progress=lambda text: click.echo(text, err=True),
    )
    write_json(out, record)
    click.echo(f"{cost_table(record)}\n{out}")


def cost_table(record: dict[str, Any]) -> str:
    """Return texts a second of one core or GPU, memory, growth and the errors on what was held out."""
    from pipeline.capacity import Cost

    model = Cost.of(record)
    tokens = sorted({int(one["tokens"]) for one in record["measurements"] if one["model"] == "run"})
    batches = sorted({int(one["rows"]) for one in record["measurements"] if one["model"] == "run"})
    unit = "core" if record["provider"].startswith("CPU") else "GPU"
    lines = [f"texts/s of a {unit}" + "".join(f"{f'{T} tokens':>13}" for T in tokens) + f"{'memory':>13}"]
    for B in batches:
        speeds = "".join(f"{B / model.call_seconds(1, B, T):>13,.0f}" for T in tokens)
        lines.append(f"batch {B:<10}{speeds}{model.instance_bytes(B, tokens[-1]) / 2**20:>9,.0f} MiB")
    lines.append("")
    for threads, prices in model.seconds.items():
        spoken = ", ".join(f"{name} {price:.2g} s" for name, price in prices.items() if price)
        lines.append(f"{threads} thread(s): {spoken}")
    lines.append("memory: " + ", ".join(f"{name} {price:.3g} B" for name, price in model.memory.items() if price))
    for name, error in {**record["held_out"], "memory": record["memory_held_out"]}.items():
        lines.append(
            f"held out {name}: predicted × {error['median']:.2f} in the median, × {error['worst']:.2f} at worst, of "
            f"{error['measurements']}"
        )
    lines.append(f"noise: a median call took × {record['noise']:.2f} its best time; on a quiet machine 1.0")
    return "\n".join(lines)
