"""What the wheel's Triton says of itself; no image of a later release is at hand."""

import os
import re
import subprocess

import pytest

from pipeline.errors import ServerError
from pipeline.triton import find_triton


def options_of_triton() -> set[str]:
    """The options that its help names, from the dashes on."""
    try:
        triton = find_triton()
    except ServerError as error:
        pytest.skip(str(error))
    environment = os.environ | {"LD_LIBRARY_PATH": f"{triton.libraries}:{triton.libpython.parent}"}
    shown = subprocess.run([triton.server, "--help"], env=environment, capture_output=True, text=True, check=False)
    options = set(re.findall(r"^\s+(--[a-z0-9-]+)", shown.stdout + shown.stderr, re.MULTILINE))
    assert options, shown.stdout + shown.stderr
    return options
