"""Serve a model repository on this machine with the Triton inside the ``nvidia-pytriton`` wheel.

`supervise` keeps a server running and yields what happens; `running` does so in a thread for the length of a ``with``
block. Loopback, single user, development: production is the official container, see ``deploy/``.
"""

from pipeline.serve.layout import Options
from pipeline.serve.monitor import Event, Loaded, LoadFailed, Ready, Restarting
from pipeline.serve.running import Server, running
from pipeline.serve.supervise import supervise

__all__ = ["Event", "LoadFailed", "Loaded", "Options", "Ready", "Restarting", "Server", "running", "supervise"]
