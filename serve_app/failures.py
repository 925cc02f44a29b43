"""Why applications did not start, in one line that a person can act on."""

from __future__ import annotations

import re

from ray.serve.schema import ServeStatus

from search_core.errors import StartError

OWN_ERROR = re.compile(r"^search_core\.errors\.\w+: (?P<words>.+)$", re.MULTILINE)


def start_error(status: ServeStatus) -> StartError:
    """From the status of applications of which one failed: the error of this project in its trace, or the last line."""
    failed = [
        (name, deployment.message)
        for app in status.applications.values()
        for name, deployment in app.deployments.items()
        if "FAILED" in deployment.status
    ]
    for name, message in failed:
        own = OWN_ERROR.findall(message)
        lines = message.strip().splitlines()
        return StartError(
            f"the server cannot start, {name}: {own[-1] if own else lines[-1] if lines else 'no message'}"
        )
    return StartError("the server cannot start: session_latest/logs in Ray's temporary folder says more")
