"""Addresses and ports: who may listen where, and which ports are free."""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pipeline.errors import ServerError, UsageError
from pipeline.serve.layout import Options

PORT_OPTIONS = {"http_port": "--http-port", "grpc_port": "--grpc-port", "metrics_port": "--metrics-port"}


def check_address(address: str, is_container: bool) -> None:
    """Refuse an address that other machines reach, except in a container, whose published ports decide.

    Raises:
        UsageError: it is not an address, or not a loopback address.
    """
    try:
        is_loopback = ip_address(address).is_loopback
    except ValueError as error:
        raise UsageError(f"--address {address}: not an IP address; wanted one such as 127.0.0.1.") from error
    if not is_loopback and not is_container:
        raise UsageError(
            f"--address {address}: other machines could reach it, and the wheel's Triton is old and asks nobody who "
            "they are: it serves loopback only. For production see deploy/."
        )


def is_in_container(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process runs in a container (Docker, Podman or Kubernetes)."""
    marks = (root / ".dockerenv", root / "run" / ".containerenv")
    return "KUBERNETES_SERVICE_HOST" in environment or any(mark.exists() for mark in marks)


def choose_ports(options: Options) -> Options:
    """Return the options with a free port for each 0.

    Raises:
        ServerError: ports are taken, or may not be used; all of them are named.
        UsageError: two services were given the same port.
    """
    asked = [port for port in (options.http_port, options.grpc_port, options.metrics_port) if port]
    if len(set(asked)) < len(asked):
        raise UsageError(f"ports {', '.join(map(str, asked))}: the three services need three different ports.")
    refusals: dict[str, OSError] = {}
    with ExitStack() as stack:
        listeners = {name: stack.enter_context(_listener(options.address)) for name in PORT_OPTIONS}
        for name, listener in listeners.items():
            try:
                listener.bind((options.address, getattr(options, name)))
            except OSError as error:
                refusals[name] = error
        if refusals:
            raise ServerError(_say_refused(options, refusals)) from next(iter(refusals.values()))
        ports: dict[str, Any] = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    return replace(options, **ports)


def is_listening(host: str, port: int) -> bool:
    """Return whether something accepts connections."""
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=1):
            return True
    except OSError:
        return False


def host_to_reach(address: str) -> str:
    """Return the host, as it stands in a URL, that reaches a server listening on an address of this machine."""
    host = ip_address(address)
    if host.is_unspecified:
        return "127.0.0.1" if host.version == 4 else "[::1]"
    return address if host.version == 4 else f"[{address}]"


def _listener(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener


def _say_refused(options: Options, refusals: Mapping[str, OSError]) -> str:
    reasons = "; ".join(f"port {getattr(options, name)}: {error.strerror}" for name, error in refusals.items())
    flags = " ".join(f"{PORT_OPTIONS[name]} 0" for name in refusals)
    return f"{options.address}: {reasons}. Choose others, or any free ones with {flags}."
