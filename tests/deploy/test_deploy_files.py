import os
import re
import subprocess

import pytest

from pipeline.errors import ServerError
from pipeline.triton import find_triton
from tests.deploy.deployment import COMPOSE_FILE, FOLDER, PROFILES, output_of


def lines(name: str) -> list[str]:
    return (FOLDER / name).read_text("utf-8").splitlines()


def pins(text: str) -> dict[str, str]:
    requirements = [line.split("#")[0].strip() for line in text.splitlines()]
    pairs = (requirement.split("==") for requirement in requirements if requirement)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_every_image_is_pinned_by_its_tag() -> None:
    images = re.findall(r"(?:image|BASE_IMAGE): \$\{\w+:-(\S+)\}", COMPOSE_FILE.read_text("utf-8"))
    images += re.findall(r"^(?:FROM|ARG BASE_IMAGE=) ?([^$\s]\S*)", "\n".join(lines("Dockerfile")), re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert re.search(r":[\w.-]*\d[\w.-]*$", image), f"{image}: no version"
        assert "latest" not in image


def test_ports_are_published_on_loopback_unless_asked_otherwise() -> None:
    published = [line for line in lines("compose.yaml") if re.search(r":800[0-2]\"$", line)]
    assert len(published) == 3
    assert all(line.strip().startswith('- "${BIND_ADDRESS:-127.0.0.1}:${') for line in published)


def test_the_light_image_installs_the_tested_versions_and_no_training_library() -> None:
    tested = pins((FOLDER.parent / "constraints.txt").read_text("utf-8"))
    installed = pins((FOLDER / "requirements.txt").read_text("utf-8"))
    assert installed.pop("onnxruntime") == tested["onnxruntime-gpu"]
    assert installed == {name: tested[name] for name in installed}
    assert not {"torch", "onnxruntime-gpu", "pyarrow", "onnxscript"} & installed.keys()


def test_every_option_is_one_that_triton_knows() -> None:
    """As the wheel's 24.10 says of itself: no image for 26.07 is at hand."""
    try:
        triton = find_triton()
    except ServerError as error:
        pytest.skip(str(error))
    environment = os.environ | {"LD_LIBRARY_PATH": str(triton.libraries)}
    known = subprocess.run([triton.server, "--help"], env=environment, capture_output=True, text=True, check=False)
    options = re.findall(r"^ +- (--[a-z-]+)", COMPOSE_FILE.read_text("utf-8"), re.MULTILINE)
    options = [option for option in options if option not in {"--fail", "--silent", "--show-error", "--noproxy"}]
    assert "--load-model" in options
    for option in options:
        assert re.search(rf"^\s*{option}\b", known.stdout + known.stderr, re.MULTILINE), option


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_reads_the_file_and_one_name_chooses_what_is_served_and_watched(
    compose: tuple[str, ...], profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_NAME", "waves")
    config = output_of(*compose, "--file", str(COMPOSE_FILE), "--profile", profile, "config")
    assert "models/waves/ready" in config
    assert ("- waves" if profile == "light" else "--load-model=waves") in config
    assert "sentiment" not in config
