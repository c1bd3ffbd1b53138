import pytest

from pipeline.serve import running
from tests.serve.tiny_models import feature_config, feature_model, place, text_config, text_model


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real Triton with a text model, a feature model, one with a short queue, and one that is not ours."""
    repository = tmp_path_factory.mktemp("client") / "model_repository"
    text, features = text_model().SerializeToString(), feature_model().SerializeToString()
    place(repository, text_config("tiny"), text)
    place(repository, text_config("narrow", dynamic_batching={"default_queue_policy": {"max_queue_size": 1}}), text)
    place(repository, feature_config("frames"), features)
    strange = text_config("strange")
    strange.parameters["classes"].string_value = '["one", "two"]'
    place(repository, strange, text)
    with running(repository) as server:
        yield server
