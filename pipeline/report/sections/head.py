"""The verdict: whether the model is verified, and how good it is."""

from dataclasses import dataclass

from pipeline.report.blocks import Figure, Head, Tone
from pipeline.report.records import Record, Records, expecting
from pipeline.report.words import NONE, count, is_finite, percent, plural, scientific


@dataclass(frozen=True)
class _Verdict:
    tone: Tone
    word: str
    clause: str


def head(records: Records) -> Head:
    """Say in one sentence what the model is worth."""
    with expecting(records.run / "run.json", "train"):
        name = str(records.info["name"])
    with expecting(records.run / "parity.json", "verify"):
        verdict = _verdict(records)
        differences = [] if records.parity is None else [_difference(records.parity)]
    with expecting(records.run / "evaluation.json", "evaluate"):
        test = None if records.evaluation is None or records.is_evaluation_stale else records.evaluation["test"]
        sentence = f"{verdict.clause}, and {_accuracy(test)}."
        figures = _accuracies(test) if test else []
    return Head(name, verdict.tone, verdict.word, sentence, (*figures, *differences))


def _verdict(records: Records) -> _Verdict:
    parity = records.parity
    if parity is None:
        command = "export" if not (records.run / "model.onnx").is_file() else "verify"
        return _Verdict("quiet", "Not verified", f"No check has been made yet (next: `pipeline {command}`)")
    if not parity["checks"]:
        return _Verdict("bad", "Not verified", "The report holds no check; run `pipeline verify` again")
    failed = [f"{check['name']} ({check['engine']})" for check in parity["checks"] if check["passed"] is not True]
    if failed or parity["passed"] is not True:
        clause = f"{len(failed)} of {plural(len(parity['checks']), 'check')} failed: {', '.join(failed)}"
        return _Verdict("bad", "Verification failed", clause)
    if records.changed:
        clause = f"{', '.join(records.changed)} changed after the checks were made; run `pipeline verify` again"
        return _Verdict("bad", "Changed since verified", clause)
    return _Verdict("good", "Verified", f"All {plural(len(parity['checks']), 'check')} passed on these very bytes")


def _accuracy(test: Record | None) -> str:
    if test is None:
        return "its accuracy is not measured"
    right, majority = test["accuracy"], test["majority_baseline"]
    against = "against" if is_finite(right) and right > majority else "no better than"
    return (
        f"{percent(right)} of {count(test['rows'])} test rows are classified right, {against} {percent(majority)} "
        "for always naming the most frequent class"
    )


def _accuracies(test: Record) -> list[Figure]:
    return [
        Figure(percent(test["accuracy"]), "test accuracy", f"{count(test['rows'])} rows never trained on"),
        Figure(percent(test["majority_baseline"]), "majority baseline", "always the most frequent class"),
    ]


def _difference(parity: Record) -> Figure:
    checks = [check["measured"] for check in parity["checks"] if "flips" in check["measured"]]
    values = [measured["max_absolute"] for measured in checks]
    worst = None if not all(is_finite(value) for value in values) else max(values, default=0)
    allowed = " and ".join(scientific(value) for value in sorted({measured["allowed"] for measured in checks}))
    return Figure(scientific(worst), "largest |Δ probability|", f"allowed: {allowed or NONE}")
