"""Speed beside what users would pick instead, measured: docs/performance.md is written by this.

    pip install 'pipeline[serve,bench]' -r docs/performance/requirements.txt
    python docs/performance prepare imdb --run runs/imdb-001 --data data/imdb --work /tmp/performance
    python docs/performance run imdb --work /tmp/performance            # or --quick, which writes nothing
    python docs/performance table

A run is any of texts that was exported with its variants and verified. `run` starts each contestant in turn, asks it in
every scenario, stops it, and so on for as many repeats as asked for: a ratio is of figures of one repeat. Each result
is a line of docs/performance.jsonl; what stands there already is not measured again: what was cut off goes on, and who
failed is tried again once the line that says so is taken away.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, PAGE, NOTES = HERE.with_suffix(".jsonl"), HERE.with_suffix(".md"), HERE / "notes.md"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("prepare", help="draw texts, publish the run, train fastText and TF-IDF")
    one.add_argument("name")
    one.add_argument("--run", type=Path, required=True, dest="run_directory")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--work", type=Path, required=True)
    one.set_defaults(run=_prepare)
    one = commands.add_parser("run", help="measure")
    one.add_argument("names", nargs="+")
    one.add_argument("--work", type=Path, required=True)
    one.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="these, by the beginnings of their names")
    one.add_argument("--seconds", type=float, default=2.5, help="of each scenario")
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--quick", action="store_true", help="see that all works; print the page of it, keep nothing")
    one.set_defaults(run=_run)
    one = commands.add_parser("table", help="write docs/performance.md")
    one.set_defaults(run=lambda _: PAGE.write_text(_page(RESULTS)))
    options = parser.parse_args()
    options.run(options)


def _prepare(options: argparse.Namespace) -> None:
    from cases import prepare

    case = prepare(options.name, options.run_directory, options.data, options.work)
    print(f"{case.folder}: variant {case.variant}, {case.mean_words:.0f} words a text, {case.accuracies}")


def _run(options: argparse.Namespace) -> None:
    from measuring import Plan, measure_case
    from records import Records

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped, as Ctrl-C does
    plan = Plan(options.seconds, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        records = Records(RESULTS)
        if options.quick:
            plan, records = Plan(seconds=1.0, repeats=1, tolerance=0.4), Records(Path(folder) / "quick.jsonl")
        for name in options.names:
            measure_case(name, options.work, plan, records, tuple(options.only))
        if options.quick:
            print(_page(records.path))


def _page(results: Path) -> str:
    from page import page
    from records import Records

    return page(Records(results), NOTES.read_text() if NOTES.exists() else "")


if __name__ == "__main__":
    main()
