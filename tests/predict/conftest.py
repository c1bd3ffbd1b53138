import pytest

from pipeline.serve import running
from tests.serve.tiny_models import feature_config, feature_model, place, text_config, text_model


@pytest.fixture(scope="session")
def url(tmp_path_factory):
    """The address of a real Triton with the text models `tiny` and its candidate, and the feature model `frames`."""
    repository = tmp_path_factory.mktemp("predict") / "model_repository"
    place(repository, text_config("tiny"), text_model().SerializeToString())
    place(repository, text_config("tiny.candidate"), text_model(seed=1).SerializeToString())
    place(repository, feature_config("frames"), feature_model().SerializeToString())
    with running(repository) as server:
        yield server.grpc_url
