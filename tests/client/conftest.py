import os
import secrets
import time
from contextlib import contextmanager

import pytest

from pipeline.client.access import TOKEN_KEY
from pipeline.serve import running
from pipeline.serve.layout import Options, command_line, environment, lay_out
from pipeline.serve.network import choose_ports, is_listening
from pipeline.serve.process import started
from pipeline.triton import find_triton
from tests.serve.tiny_models import feature_config, feature_model, place, text_config, text_model

SECRET = "a secret that only the tests know"  # noqa: S105
RESTRICTED = (
    f"--grpc-restricted-protocol=inference,model-config,model-repository:{TOKEN_KEY}={SECRET}",
    f"--http-restricted-api=inference,model-config:{TOKEN_KEY}={SECRET}",
)


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A text model, a feature model, one with a short queue, one that is not ours, and candidates of the first."""
    repository = tmp_path_factory.mktemp("client") / "model_repository"
    text, features = text_model().SerializeToString(), feature_model().SerializeToString()
    place(repository, text_config("tiny"), text)
    place(repository, text_config("tiny.candidate"), text)
    place(repository, text_config("other.candidate"), text_model(seed=1).SerializeToString())
    place(repository, text_config("narrow", dynamic_batching={"default_queue_policy": {"max_queue_size": 1}}), text)
    place(repository, feature_config("frames"), features)
    strange = text_config("strange")
    strange.parameters["classes"].string_value = '["one", "two"]'
    place(repository, strange, text)
    return repository


@pytest.fixture(scope="session")
def server(repository):
    """A real Triton with those models."""
    with running(repository) as server:
        yield server


@contextmanager
def triton(options, folder, *flags):
    """Run a Triton of the wheel's with more flags than `pipeline serve` gives it."""
    wheel = find_triton()
    folder.mkdir()
    lay_out(folder, wheel)
    regions = f"pipeline-{os.getpid()}-{secrets.token_hex(4)}-"
    command = command_line(folder, wheel, options, options.models, regions)
    with started([*command, *flags], environment(folder, wheel), folder, regions, lambda _: None) as process:
        deadline = time.monotonic() + 60
        while not is_listening(options.address, options.grpc_port):
            process.check()
            assert time.monotonic() < deadline, "still loading"
            time.sleep(0.05)
        yield process


@pytest.fixture(scope="session")
def restricted(repository, tmp_path_factory):
    """A real Triton that asks for a token over gRPC and HTTP; its options."""
    options = choose_ports(Options(repository, http_port=0, grpc_port=0, metrics_port=0, models=("tiny",)))
    with triton(options, tmp_path_factory.mktemp("restricted") / "folder", *RESTRICTED):
        yield options
