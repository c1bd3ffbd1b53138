import shlex
from pathlib import Path

from pipeline.serve.layout import environment, lay_out
from pipeline.triton import find_triton

FOLDER = Path("/opt/tritonserver")
PROGRAM = Path("/usr/local/bin/tritonserver")

triton = find_triton()
FOLDER.mkdir()
lay_out(FOLDER, triton)
known = environment(FOLDER, triton)
settings = shlex.join(f"{name}={known[name]}" for name in ("LD_LIBRARY_PATH", "PATH"))
PROGRAM.write_text(f'#!/bin/sh\nexec env {settings} {triton.server} --backend-directory={FOLDER}/backends "$@"\n')
PROGRAM.chmod(0o755)
