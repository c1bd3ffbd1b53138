import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

_NUMBERS = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write a module into the current directory, and return its name, which no other test has used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    made = []

    def write(code: str) -> str:
        made.append(f"elsewhere_{next(_NUMBERS)}")
        (tmp_path / f"{made[-1]}.py").write_text(code)
        return made[-1]

    yield write
    for name in made:
        sys.modules.pop(name, None)
