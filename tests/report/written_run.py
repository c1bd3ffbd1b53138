"""Write a run directory's records by hand: the smallest that every stage could have left."""

import json
from pathlib import Path
from typing import Any

from pipeline.files import sha256_of, write_json
from pipeline.run_directory import RunDirectory
from pipeline.signature import make_signature

SPLITS = ("train", "validation", "test")
HASH = "ab" * 32


def write_run(folder: Path, classes: tuple[str, ...] = ("calm", "angry"), *, name: str = "moods") -> RunDirectory:
    """Write every file of a verified run, whose weights and model are a few bytes."""
    path = folder / f"{name}-001"
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text('[train]\nepochs = 3\noptimizer = "adamw"\n')
    (path / "weights.safetensors").write_bytes(b"weights")
    (path / "model.onnx").write_bytes(b"model")
    write_json(path / "run.json", _info(path, folder / "data", classes, name))
    write_json(path / "evaluation.json", _evaluation(path, classes))
    write_json(path / "attack.json", _attack(path, classes))
    make_signature("text", classes).save(path / "signature.json")
    write_json(path / "parity.json", _parity(path, classes))
    write_epochs(path, [_epoch(1, 0.9, is_best=True), _epoch(2, 0.7654, is_best=True), _epoch(3, 0.8, is_best=False)])
    (folder / "data").mkdir()
    write_json(folder / "data" / "dataset.json", _profile(classes))
    return RunDirectory.open(path)


def change(path: Path, **values: Any) -> None:
    """Change keys at the top of a JSON file."""
    write_json(path, json.loads(path.read_text()) | values)


def write_epochs(path: Path, epochs: list[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl``; NaN becomes null, as a careful writer does."""
    (path / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


def _epoch(number: int, loss: float, *, is_best: bool) -> dict[str, Any]:
    return {
        "epoch": number,
        "train_loss": loss - 0.1,
        "validation_loss": loss,
        "validation_accuracy": 0.8125,
        "gradient_norm": 0.4567,
        "clipped_share": 0.25,
        "tokens_per_second": 23456.7,
        "seconds": 1.5,
        "learning_rate": 0.00175,
        "is_best": is_best,
    }


def _info(path: Path, data: Path, classes: tuple[str, ...], name: str) -> dict[str, Any]:
    return {
        "format": 1,
        "name": name,
        "dataset": str(data),
        "dataset_hashes": {f"{split}.parquet": HASH for split in SPLITS},
        "interface": "text",
        "classes": list(classes),
        "feature_size": None,
        "device": "cpu",
        "deterministic": False,
        "interrupted": False,
        "calibration": {
            "temperature": 1.357,
            "before": {"loss": 0.5001, "expected_calibration_error": 0.0811},
            "after": {"loss": 0.4321, "expected_calibration_error": 0.0357},
        },
        "versions": {"pipeline": "0.1.0", "torch": "2.99.1"},
        "hashes": {file: sha256_of(path / file) for file in ("recipe.toml", "weights.safetensors")},
    }


def _evaluation(path: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    split = {
        "rows": 1234,
        "loss": 0.4321,
        "accuracy": 0.8765,
        "macro_f1": 0.7531,
        "majority_baseline": 0.5432,
        "classes": [
            {"label": label, "rows": 617, "precision": 0.91, "recall": 0.82, "f1": 0.8628} for label in classes
        ],
        "confusion": [[506 if a == b else 111 for b in classes] for a in classes],
        "calibration": {
            "expected_calibration_error": 0.0357,
            "bins": [
                {"rows": 234, "confidence": 0.61, "accuracy": 0.5901},
                {"rows": 1000, "confidence": 0.93, "accuracy": 0.9502},
            ],
        },
        "lengths": [
            {"from": 1, "to": 9, "rows": 600, "accuracy": 0.9123},
            {"from": 10, "to": 40, "rows": 634, "accuracy": 0.8345},
        ],
        "confident_wrong": [
            {
                "row": 4321,
                "label": classes[0],
                "predicted": classes[1],
                "probability": 0.9917,
                "length": 7,
                "text": "not <b>calm</b> at all",
            }
        ],
    }
    return {
        "weights_sha256": sha256_of(path / "weights.safetensors"),
        "validation": split | {"rows": 1111},
        "test": split,
    }


def _attack(path: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "format": 1,
        "weights_sha256": sha256_of(path / "weights.safetensors"),
        "rows": 500,
        "seed": 0,
        "clean_accuracy": 0.874,
        "typos": [{"typos": 1, "accuracy": 0.6123}, {"typos": 2, "accuracy": 0.4567}],
        "epsilon": [{"epsilon": 0.0, "accuracy": 0.874}, {"epsilon": 0.5, "accuracy": 0.3456}],
        "examples": [
            {
                "text": "so <i>calm</i>",
                "attacked": "so <i>clam</i>",
                "typos": 1,
                "label": classes[0],
                "predicted": classes[1],
            }
        ],
    }


def _parity(path: Path, classes: tuple[str, ...]) -> dict[str, Any]:
    share = 1 / len(classes)
    worst = {
        "batch": "batch 7 × length 3, ragged",
        "row": 5,
        "input": "'so calm <b>today</b>'",
        "reference": [share] * len(classes),
        "candidate": [share + 3.2e-7] * len(classes),
        "labels": [classes[0], classes[0]],
    }
    places = [
        {"batch": batch, "length": length, "arrangement": arrangement, "max_absolute": 3.2e-7}
        for batch in (1, 7)
        for length in (1, 3)
        for arrangement in ("uniform", "ragged", "one long")
    ]
    near = {"batch": "batch 7 × length 3, ragged", "row": 2, "margin": 2.5e-6, "labels": [classes[0], classes[1]]}
    grid = {
        "rows": 888,
        "max_absolute": 3.2e-7,
        "mean_absolute": 1e-8,
        "max_relative": 4e-7,
        "mean_relative": 2e-8,
        "quantiles": {"0.5": 1e-8, "0.9": 1e-7, "0.99": 2e-7, "0.999": 3e-7},
        "histogram": {"edges": [1e-7, 1e-6, 1e-5, 1e-4], "counts": [870, 18, 0, 0, 0], "not_finite": 0},
        "cosine": 1.0,
        "not_finite": [0, 0],
        "allowed": 1e-5,
        "allowed_relative": 0.0,
        "needed": 3.2e-7,
        "flips": 0,
        "near_flips": 1,
        "valid_flips": 0,
        "flipped": [near | {"input": "'<i>neither</i> nor'"}],
        "worst": worst,
        "grid": places,
    }
    return {
        "format": 1,
        "passed": True,
        "hashes": {name: sha256_of(path / name) for name in ("weights.safetensors", "model.onnx", "signature.json")},
        "versions": {"pipeline": "0.1.0", "python": "3.11.7", "torch": "2.99.1", "onnxruntime": "1.99.2"},
        "tolerances": {"cpu": 1e-5},
        "checks": [
            check("files", "hashes", detail="3 files are the bytes that were exported", measured={"changed": []}),
            check("cpu", "grid", measured=grid),
        ],
        "engine_checks": [],
        "endpoint_checks": [check("grpc://127.0.0.1:8001", "grid", measured=grid)],
        "goldens": [{"text": "so calm", "probabilities": [share] * len(classes), "label": classes[0]}],
        "variants": {},
    }


def check(engine: str, name: str, *, passed: bool = True, detail: str = "", measured: Any) -> dict[str, Any]:
    """Return one check as ``parity.json`` holds it."""
    return {"engine": engine, "name": name, "passed": passed, "detail": detail, "measured": measured}


def _profile(classes: tuple[str, ...]) -> dict[str, Any]:
    counts = {"train": 4321, "validation": 617, "test": 618}
    none = {"count": 0, "lines": []}
    return {
        "format": 1,
        "interface": "text",
        "classes": list(classes),
        "feature_size": None,
        "rows": {split: count * len(classes) for split, count in counts.items()},
        "class_rows": dict.fromkeys(classes, counts),
        "lengths": {"words": {"p50": 17, "p90": 29, "p99": 42, "max": 146}},
        "read": {
            "file": {
                "rows": 19459,
                "bad": {"no label": {"count": 3, "lines": [7, 70, 700]}},
                "duplicates": {"count": 215, "lines": [1]},
                "conflicts": {"inputs": 1, "count": 2, "lines": [173]},
                "also_in_test": 0,
            },
            "test": {"rows": 618, "bad": {}, "duplicates": none, "conflicts": none | {"inputs": 0}},
        },
        "unseen": {"test": {"words": 0.0412}},
        "straddling": 0,
        "fractions": [0.8, 0.1, 0.1],
        "seed": 9,
        "source": {"name": "moods", "package": "moods==1.2", "files": ["a.tsv", "b.tsv"]},
        "hashes": {f"{split}.parquet": HASH for split in SPLITS},
    }
