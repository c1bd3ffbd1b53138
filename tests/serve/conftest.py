from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from pipeline.serve import Server, running
from tests.serve.tiny_models import (
    feature_config,
    feature_model,
    flat_config,
    place,
    text_config,
    text_model,
    witness_config,
    witness_model,
)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that no test changes."""
    root = tmp_path_factory.mktemp("repository")
    place(root, text_config("words"), text_model().SerializeToString())
    place(root, feature_config("frames"), feature_model().SerializeToString())
    place(root, text_config("fragile"), text_model(is_guarded=False).SerializeToString())
    place(root, flat_config("flat"), text_model(is_flat=True).SerializeToString())
    for name, is_text in (("text_witness", True), ("frame_witness", False)):
        place(root, witness_config(name, is_text), witness_model(is_text).SerializeToString())
    return root


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    with running(repository) as server:
        yield server
    assert len(server.events) == 1, "the server was restarted, or loaded something"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A repository of one text model that a test may change."""
    place(tmp_path / "repository", text_config("words"), text_model().SerializeToString())
    return tmp_path / "repository"


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_url) as client:
        yield client
