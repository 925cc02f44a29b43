"""This project's log lines in a replica go where Serve's go, which adds the request id to each."""

from __future__ import annotations

import logging
from typing import Final

OURS: Final = ("serve_app", "search_core")
SERVE: Final = logging.getLogger("ray.serve")


class ToServe(logging.Handler):
    """Hands records to whatever handlers Serve's logger has at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        SERVE.handle(record)


def log_through_serve() -> None:
    """To be called as a replica starts: its level is that of the Serve config."""
    for name in OURS:
        ours = logging.getLogger(name)
        ours.setLevel(SERVE.level)
        if not any(isinstance(handler, ToServe) for handler in ours.handlers):
            ours.addHandler(ToServe())
