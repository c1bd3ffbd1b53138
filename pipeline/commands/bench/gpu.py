"""`pipeline bench gpu`: parse options, print measurements beside their roofline."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of everything, in turn.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    default=Path(),
    show_default=True,
    help="Folder for the dated record.",
)
def gpu(run: Path, rounds: int, out: Path) -> None:
    """Measure a model on this machine's GPU, in process, beside the roofline of its recurrent layers.

    ONNX Runtime (raw text in, split on the processor) and PyTorch with cuDNN (token ids in), in fp32, TF32 and fp16,
    over batches and lengths. The roofline is the least time that the GPU's arithmetic and memory allow, both measured
    here; streamed is that of a kernel which reads the recurrent weights from memory at every step.

    \b
    pipeline bench gpu runs/sentiment-001 --out records
    """
    from pipeline.bench.gpu import bench_gpu, record_name
    from pipeline.files import write_json
    from pipeline.run_directory import RunDirectory

    record = bench_gpu(RunDirectory.open(run), rounds=rounds, progress=lambda text: click.echo(text, err=True))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / record_name(record), record)
    click.echo(f"{gpu_table(record)}\n{out / record_name(record)}")


def gpu_table(record: dict[str, Any]) -> str:
    """Return the peaks, then each measurement beside its roofline."""
    lines = [f"{record['device']}, {record['date']}: PyTorch {record['pytorch']}, ONNX Runtime {record['onnxruntime']}"]
    for precision, peak in record["peaks"].items():
        lines.append(f"{precision}: {peak['operations'] / 1e12:.3g} TFLOP/s, {peak['bytes'] / 1e9:.3g} GB/s")
    head = f"{'way':<17}{'batch':>6}{'tokens':>7}{'texts/s':>11}{'tokens/s':>13}{'ms':>10}{'roofline':>10}"
    lines.append(f"{head}{'streamed':>10}  bound by")
    for one in record["measurements"]:
        least = one["roofline"]
        lines.append(
            f"{one['way']:<17}{one['rows']:>6}{one['tokens']:>7}{one['texts_per_second']:>11,.0f}"
            f"{one['tokens_per_second']:>13,.0f}{one['seconds'] * 1e3:>10.3f}{least['seconds'] * 1e3:>10.4f}"
            f"{least['streamed_seconds'] * 1e3:>10.4f}  {least['by']}, {one['roofline_share']:.1%} of it reached"
        )
    for way, difference in record["difference"].items():
        lines.append(f"{way}: max |Δ probability| to {next(iter(record['difference']))} {difference:.1e}")
    lines += [f"{way}: skipped: {reason}" for way, reason in record["skipped"].items()]
    return "\n".join(lines)
