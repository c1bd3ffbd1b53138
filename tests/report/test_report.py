import json
import math
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pipeline.commands import main
from pipeline.errors import DataError, RunError
from pipeline.files import write_json
from pipeline.report import write_report
from tests.report.reading import Page
from tests.report.written_run import change, check, write_epochs, write_run

SECTIONS = [
    "data",
    "training",
    "held-out",
    "classes",
    "calibration",
    "mistakes",
    "robustness",
    "contract",
    "parity",
    "distances",
    "flips",
    "variants",
    "drift",
    "files",
    "reproduce",
]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path)


def page_of(run, data=None):
    page = Page(write_report(run, data))
    assert page.problems == []
    return page


def test_the_page_has_every_section_under_a_heading_of_its_own(run):
    page = page_of(run)
    assert [attributes["id"] for attributes in page.of("section")] == SECTIONS
    assert [link["href"] for link in page.of("a")] == [f"#{name}" for name in SECTIONS]
    assert len(page.of("h1")) == 1
    assert len(page.of("h2")) == len(SECTIONS)


def test_the_page_says_the_numbers_of_the_records(run):
    text = page_of(run).text
    for number in (
        *("87.65 %", "54.32 %", "75.31 %", "0.4321", "0.0357", "1,234", "1,111", "506", "111", "86.28 %"),  # evaluation
        *("A temperature of 1.357", "from 0.5001 to 0.4321 nats", "from 0.0811 to 0.0357"),  # calibration
        *("1–9 tokens 91.23 %", "4,321", "99.17 %", "not <b>calm</b> at all"),  # mistakes
        *("1 typo 61.23 %", "2 typos 45.67 %", "so <i>clam</i>"),  # attack
        *("At epoch 2: 0.00175", "25.00 % of steps cut"),  # learning rate, clipping
        *("3.2e-07", "1e-05", "888", "batch 7 × length 3, ragged, row 5"),  # parity
        *(
            "4,321",
            "617",
            "19,459",
            "215",
            "146",
            "bad: no label 3 rows of file left out (line 7, 70, 700)",
            "4.12 % of words",
        ),  # data set
        *("0.7654", "81.25 %", "0.457", "23,457", "the weights of epoch 2 were kept"),  # metrics
        *("probabilities FP32 batch × 2", "valid BOOL batch × 1"),  # signature
        *("2.99.1", "1.99.2", "epochs = 3", "pipeline data fetch moods", "--engine grpc://127.0.0.1:8001"),  # origin
        json.loads((run / "parity.json").read_text())["hashes"]["model.onnx"],
    ):
        assert number in text


def test_one_sentence_says_verified_and_how_accurate(run):
    assert (
        "Verified All 2 checks passed on these very bytes, and 87.65 % of 1,234 test rows are classified right, "
        "against 54.32 % for always naming the most frequent class."
    ) in page_of(run).text


def test_a_failed_check_is_named_in_the_verdict_and_shown_with_its_detail(run):
    bad = check("CPUExecutionProvider", "vocabulary", passed=False, detail="the engine failed: no", measured={})
    change(run / "parity.json", passed=False, checks=[bad])
    text = page_of(run).text
    assert "Verification failed 1 of 1 check failed: vocabulary (CPUExecutionProvider)" in text
    assert "FAIL" in text
    assert "the engine failed: no" in text


def test_a_report_that_says_passed_does_not_hide_a_failed_check(run):
    change(run / "parity.json", checks=[check("files", "graph", passed=False, measured={})])
    assert "Verification failed" in page_of(run).text


def test_a_report_without_any_check_is_not_verified(run):
    change(run / "parity.json", checks=[])
    assert "Not verified The report holds no check" in page_of(run).text


def test_a_report_that_does_not_name_the_model_is_not_verified(run):
    change(run / "parity.json", hashes={})
    assert "Changed since verified model.onnx, signature.json changed" in page_of(run).text


def test_a_model_changed_after_verification_is_not_called_verified(run):
    (run / "model.onnx").write_bytes(b"other")
    text = page_of(run).text
    assert "Changed since verified model.onnx changed after the checks were made" in text
    assert "Changed since these checks were made: model.onnx." in text


def test_figures_of_other_weights_are_not_shown(run):
    change(run / "evaluation.json", weights_sha256="0" * 64)
    text = page_of(run).text
    assert "87.65 %" not in text
    assert "belongs to other weights" in text
    assert "its accuracy is not measured" in text


def test_the_curve_over_epsilon_says_its_figures(run):
    assert "0: 87.40 %; 0.5: 34.56 %" in write_report(run).read_text()


def test_an_attack_on_other_weights_is_not_shown(run):
    change(run / "attack.json", weights_sha256="0" * 64)
    text = page_of(run).text
    assert "61.23 %" not in text
    assert "attack.json belongs to other weights" in text


def test_an_evaluation_of_an_earlier_version_asks_for_another(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    for split in ("test", "validation"):
        del evaluation[split]["lengths"]
    change(run / "evaluation.json", **evaluation)
    assert "of an earlier version: run pipeline evaluate again" in page_of(run).text


def test_a_run_without_temperature_or_learning_rates_has_a_page(run):
    change(run / "run.json", calibration=None)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps({k: v for k, v in line.items() if k != "learning_rate"}) + "\n" for line in lines)
    )
    text = page_of(run).text
    assert "A temperature of" not in text
    assert "Learning rate of" not in text


def test_an_accuracy_that_does_not_beat_the_baseline_is_called_so(run):
    test = json.loads((run / "evaluation.json").read_text())["test"] | {"accuracy": 0.5}
    change(run / "evaluation.json", test=test)
    assert "classified right, no better than 54.32 %" in page_of(run).text


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("signature.json", "export"),
        ("evaluation.json", "evaluate"),
        ("attack.json", "attack"),
        ("parity.json", "verify"),
        ("metrics.jsonl", "train"),
    ],
)
def test_a_part_that_is_not_there_names_its_command(run, file, command):
    (run / file).unlink()
    assert f"Make it with pipeline {command} {run.path} ." in page_of(run).text


def test_a_run_that_was_only_trained_has_a_page(run):
    for file in ("evaluation.json", "parity.json", "signature.json", "model.onnx"):
        (run / file).unlink()
    assert "Not verified No check has been made yet (next: pipeline export )" in page_of(run).text


def test_a_data_set_that_is_gone_is_said_to_be_gone(run):
    (run.path.parent / "data" / "dataset.json").unlink()
    assert "data is no longer there" in page_of(run).text


def test_a_data_set_that_moved_is_found_by_option(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert "19,459" in page_of(run, tmp_path / "elsewhere").text
    with pytest.raises(DataError, match=r"data: not a prepared data set: .*no such file"):
        write_report(run, tmp_path / "data")


def test_the_profile_of_another_data_set_is_not_shown(run, tmp_path):
    change(tmp_path / "data" / "dataset.json", hashes={"train.parquet": "00"})
    text = page_of(run).text
    assert "now holds other rows than this run was trained on" in text
    assert "19,459" not in text


@pytest.mark.parametrize("class_count", [2, 31])
def test_class_names_and_texts_are_escaped(tmp_path, class_count):
    names = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style>", "{{ 7 * 7 }}", "'&amp;\u202e")
    classes = (*names, *map(str, range(26)))[:class_count]
    page = page_of(write_run(tmp_path, classes, name="<i>moods"))
    assert not page.of("script") + page.of("img") + page.of("b") + page.of("i")
    assert "<script>alert(1)</script>" in page.text
    assert "so calm <b>today</b>" in page.text


def test_half_a_surrogate_pair_does_not_break_the_page(run):
    info = json.loads((run / "run.json").read_text()) | {"name": "half \ud83d"}
    (run / "run.json").write_text(json.dumps(info))
    assert "half ?" in page_of(run).text


def test_the_page_needs_nothing_from_outside_and_runs_nothing(run):
    page = page_of(run)
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert not page.of("script") + page.of("link") + page.of("iframe")
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert str(attributes.get("href", "#")).startswith("#"), tag
    policy = next(meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_tables_have_captions_and_scopes_and_drawings_have_words(run):
    page = page_of(run)
    assert len(page.of("caption")) == len(page.of("table")) > 8
    assert all(heading["scope"] in {"col", "row", "rowgroup", "colgroup"} for heading in page.of("th"))
    assert len(page.of("svg")) == 13
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.of("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_a_diverging_metric_does_not_break_the_page(run, value, survivors):
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for epoch in epochs[survivors:]:
        bad = (
            "train_loss",
            "validation_loss",
            "validation_accuracy",
            "gradient_norm",
            "clipped_share",
            "tokens_per_second",
        )
        epoch |= {**dict.fromkeys(bad, value), "is_best": False}
    write_epochs(run.path, epochs)
    page = page_of(run)
    assert "are not finite: training diverged" in page.text
    assert not [text for text in ("NaN", "nan", "inf,", "None") if text in page.source]
    assert ("no epoch was kept" in page.text) == (survivors == 0)
    assert ("no finite value" in page.text) == (survivors == 0)


def test_a_parity_that_is_not_a_number_is_never_called_small(run):
    parity = json.loads((run / "parity.json").read_text())
    grid = parity["checks"][1] | {"passed": False}
    grid["measured"] |= {"max_absolute": None}
    grid["measured"]["worst"]["candidate"] = [None, 0.5]
    change(run / "parity.json", passed=False, checks=[grid])
    assert "largest |Δ probability| not finite" in page_of(run).text


def test_a_run_interrupted_in_its_first_epoch_has_a_page(run):
    write_epochs(run.path, [])
    assert "Not one epoch was finished." in page_of(run).text


def test_one_epoch_is_drawn(run):
    write_epochs(run.path, [json.loads((run / "metrics.jsonl").read_text().splitlines()[0])])
    assert "the weights of epoch 1 were kept" in page_of(run).text


def test_thirty_classes_make_a_matrix_and_more_make_a_list(tmp_path):
    few = page_of(write_run(tmp_path / "few", tuple(f"class {number}" for number in range(30))))
    many = page_of(write_run(tmp_path / "many", tuple(f"class {number}" for number in range(31))))
    assert "Confusion matrix: test" in few.text
    assert "Confusion matrix: test" not in many.text
    assert "A matrix of 31 classes cannot be read" in many.text
    assert "The most frequent confusions: test" in many.text


@pytest.mark.parametrize(
    "file", ["run.json", "evaluation.json", "attack.json", "parity.json", "signature.json", "metrics.jsonl"]
)
@pytest.mark.parametrize("content", ['{"epoch": 1, "na', "[1, 2]", "{}", '"\\', "\udcff"])
def test_a_damaged_file_gives_one_line_and_no_page(run, file, content):
    (run / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=file) as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_a_damaged_profile_gives_one_line(run, tmp_path):
    (tmp_path / "data" / "dataset.json").write_text('{"hashes": ')
    with pytest.raises(RunError, match=r"dataset\.json: not readable as JSON"):
        write_report(run)


@pytest.mark.parametrize(
    ("file", "values", "command"),
    [
        ("evaluation.json", {"test": {}}, "evaluate"),
        ("evaluation.json", {"test": {"lengths": [{}]}}, "evaluate"),
        ("attack.json", {"typos": [{}]}, "attack"),
        ("parity.json", {"checks": [{"engine": "files"}]}, "verify"),
        ("run.json", {"versions": None}, "train"),
        ("../data/dataset.json", {"rows": {}}, "data"),
    ],
)
def test_json_that_is_not_the_stages_names_the_command(run, file, values, command):
    path = run / file
    write_json(path, json.loads(path.read_text()) | values)
    with pytest.raises(RunError, match=rf"{path.name}: not what `pipeline {command}` writes .*Run it again"):
        write_report(run)


def test_the_same_files_give_the_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_real_verified_run_has_a_page_with_its_own_figures(verified_run, copy_of):
    run = copy_of(verified_run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    text = page_of(run).text
    assert f"{evaluation['test']['accuracy']:.2%}".replace("%", " %") in text
    assert "Verified All" in text
    assert "vocabulary" in text


def test_a_real_exported_run_says_that_it_is_not_verified(exported_run, copy_of):
    text = page_of(copy_of(exported_run)).text
    assert "Not verified No check has been made yet (next: pipeline verify )" in text


def test_a_real_run_over_features_has_a_page(verified_feature_run, copy_of):
    text = page_of(copy_of(verified_feature_run)).text
    assert "frames in a row" in text
    assert "middling" in text


def test_the_command_prints_the_path_of_the_page(run):
    result = CliRunner().invoke(main, ["report", str(run.path)])
    assert result.exit_code == 0
    assert result.stdout == f"{run / 'report.html'}\n"


def test_the_command_ends_in_one_line_where_there_is_no_run(tmp_path):
    result = CliRunner().invoke(main, ["report", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "no such run directory" in result.stderr


def test_the_page_is_made_without_torch_numpy_or_onnxruntime(run):
    code = (
        "import sys; from pathlib import Path; from pipeline.report import write_report; "
        "from pipeline.run_directory import RunDirectory; write_report(RunDirectory.open(Path(sys.argv[1]))); "
        "print([name for name in ('torch', 'numpy', 'onnx', 'onnxruntime', 'pyarrow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, run.path], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
