"""SECURITY.md names the tests that show each defence; they must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text("utf-8"))))


def test_most_threats_have_a_test() -> None:
    assert len(NAMED) >= 15


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()
