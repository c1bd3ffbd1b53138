import subprocess
import sys

import pipeline.client


def test_the_public_surface_is_what_the_documentation_names():
    clients = ["Access", "AsyncClient", "Client", "Contract", "Counters", "Prediction", "Row"]
    assert sorted(pipeline.client.__all__) == sorted([*clients, "Comparison", "RequestLog", "Split", "StopRule"])
    assert all(hasattr(pipeline.client, name) for name in pipeline.client.__all__)


def test_sync_and_async_clients_have_the_same_methods():
    surfaces = [
        {name for name in dir(kind) if not name.startswith("_")}
        for kind in (pipeline.client.Client, pipeline.client.AsyncClient)
    ]
    assert surfaces[0] == surfaces[1]


def test_importing_the_client_loads_nothing_heavy():
    code = "import sys, pipeline.client; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "onnx", "onnxruntime", "pyarrow", "click"} & set(loaded)
