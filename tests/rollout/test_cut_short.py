"""A rollout that is ended in its middle, or whose server is: everything goes back, or says where it is."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event as Flag

import pytest

from pipeline.client import Access
from pipeline.errors import PipelineError
from pipeline.publish import publish
from pipeline.repository.goldens import Goldens
from pipeline.rollout import Live, rollout
from pipeline.run_directory import RunDirectory
from pipeline.serve import Server
from tests.rollout.conftest import NAME, Steady, aliases_of, roll_out, up_to
from tests.rollout.explicit import TOKEN, explicit
from tests.rollout.test_rollout import STEPS

# ends itself, as nobody can forbid, when a step has passed
KILLED = """
import os, signal, sys
from pathlib import Path
from threading import Event
from pipeline.client import Access
from pipeline.rollout import Live, rollout

name, repository, url, token, step = sys.argv[1:]
for event in rollout(name, Path(repository), Live(url, Access(token=token)), Event()):
    if event.name == step:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", STEPS[:-2])
def test_whenever_it_is_told_to_stop_everything_goes_back_and_the_candidate_stays_one(
    step: str, steady: Steady, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, steady.repository, alias="candidate")
    stop = Flag()
    rolling = rollout(NAME, steady.repository, steady.live, stop)
    with steady.untouched(candidate=True):
        up_to(step, rolling)
        stop.set()
        with pytest.raises(PipelineError, match="interrupted. Version 1 is production, and answers, as before"):
            list(rolling)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_ends_it_with_exit_code_1_and_everything_goes_back(
    number: signal.Signals, steady: Steady, verified_run: RunDirectory, text_file: Path
) -> None:
    where = ("--url", steady.live.url, "--repository", str(steady.repository))
    words = [sys.executable, "-m", "pipeline", "rollout", str(verified_run.path), *where, "--shadow", str(text_file)]
    environment = {**os.environ, "PIPELINE_TOKEN": TOKEN}
    with steady.untouched(candidate=True):
        process = subprocess.Popen([*words, "--max-slowdown", "99"], stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        with process.stderr as lines:
            assert any("candidate answers" in line for line in lines)
            process.send_signal(number)
            last = lines.read().splitlines()[-1]
        assert process.wait(30) == 1
    assert re.fullmatch(
        r"pipeline: opinions: version \d+ was not rolled out: interrupted. "
        "Version 1 is production, and answers, as before.",
        last,
    )


@pytest.mark.parametrize("step", ["candidate is loaded", "candidate is production", "production answers"])
def test_a_rollout_that_is_killed_leaves_a_state_from_which_the_next_one_goes_on(
    step: str, repository: Path, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    with explicit(repository, NAME) as server:
        words = (NAME, str(repository), server.grpc_url, TOKEN, step)
        killed = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert aliases_of(repository) == ((1, 2) if step == "candidate is loaded" else (2, None))
        done = roll_out(NAME, "--url", server.grpc_url, "--repository", repository, token=TOKEN)
        assert done.exit_code == 0, done.output
        assert aliases_of(repository) == (2, None)
        live = Live(server.grpc_url, server.access)
        live.require_answers(NAME, Goldens.load(repository / NAME / "2"))
        assert live.versions(f"{NAME}.candidate") == ()


@pytest.mark.parametrize("step", ["candidate is loaded", "candidate is production"])
def test_a_server_that_dies_and_is_started_again_serves_as_before(
    step: str, repository: Path, embedded: Server, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    live = Live(embedded.grpc_url, Access())
    rolling = rollout(NAME, repository, live, Flag())
    up_to(step, rolling)
    os.kill(embedded.ready.pid, signal.SIGKILL)
    with pytest.raises(PipelineError, match="not rolled out: .* Version 1 is production, and answers, as before"):
        list(rolling)
    assert aliases_of(repository) == (1, 2)
    live.require_answers(NAME, Goldens.load(repository / NAME / "1"))


def test_a_server_that_dies_and_stays_so_is_named_with_what_is_where_and_what_mends_it(
    repository: Path, contrary_run: RunDirectory
) -> None:
    publish(contrary_run, repository, alias="candidate")
    with explicit(repository, NAME) as server:
        rolling = rollout(NAME, repository, Live(server.grpc_url, server.access, timeout_seconds=5), Flag())
        up_to("candidate is production", rolling)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(PipelineError) as raised:
            list(rolling)
    said = re.search(
        r"Going back failed too: .*On disk production is version 1, the candidate 2; \S+ does not answer. "
        "Mend with `pipeline (.+)`.$",
        str(raised.value),
    )
    assert said, raised.value
    port = int(server.grpc_url.rpartition(":")[2])
    with explicit(repository, NAME, port=port):
        done = roll_out(*shlex.split(said[1])[1:], token=TOKEN)
    assert done.exit_code == 0, done.output
    assert aliases_of(repository) == (2, None)
