"""Whether a port can be listened on, said before anything is started."""

from __future__ import annotations

import errno
import socket
import time

from search_core.errors import UsageError

RETRY_S = 0.2


def require_free_port(host: str, port: int, wait_s: float = 0.0) -> None:
    """Returns once nobody listens on the port.

    Raises:
        UsageError: somebody still does after `wait_s`, or the address is not this machine's.
    """
    deadline = time.monotonic() + wait_s
    while (error := _bind_error(host, port)) is not None:
        if error.errno != errno.EADDRINUSE:
            raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}")
        if time.monotonic() >= deadline:
            raise UsageError(
                f"port {port} on {host} is in use: stop what listens there, or take another --port"
            )
        time.sleep(RETRY_S)


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None
