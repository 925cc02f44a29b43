"""Starts an index run on Kubernetes: `python -m cluster.reindex NAME` copies the suspended RayJob NAME into one that runs.

For a pod of a Job whose service account may get that RayJob and create others. `JOB_NAME` and `JOB_UID` say which Job
it is: the run belongs to it, and is deleted with it.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 30.0


def run_of(pattern: Mapping[str, Any], job_name: str, job_uid: str) -> dict[str, Any]:
    """The RayJob that does once what a suspended one describes, and belongs to a Job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "uid": job_uid}
    return {
        "apiVersion": pattern["apiVersion"],
        "kind": pattern["kind"],
        "metadata": {
            "generateName": f"{pattern['metadata']['name']}-",
            "labels": pattern["metadata"].get("labels", {}),
            "ownerReferences": [owner],
        },
        "spec": {**pattern["spec"], "suspend": False},
    }


def start(api: httpx.Client, namespace: str, name: str, job_name: str, job_uid: str) -> str:
    """Creates the run and returns its name.

    Raises:
        httpx.HTTPError: Kubernetes does not answer, or refuses.
    """
    path = f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
    pattern = api.get(f"{path}/{name}").raise_for_status().json()
    created = api.post(path, json=run_of(pattern, job_name, job_uid)).raise_for_status().json()
    return str(created["metadata"]["name"])


def main(name: str) -> None:
    """Starts a run with the service account of this pod; says its name, or in one line why there is none."""
    token, namespace = ((ACCOUNT / file).read_text(encoding="utf-8") for file in ("token", "namespace"))
    certificates = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with httpx.Client(
        base_url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        headers={"Authorization": f"Bearer {token}"},
        verify=certificates,
        timeout=TIMEOUT_S,
        trust_env=False,
    ) as api:
        try:
            run = start(api, namespace, name, os.environ["JOB_NAME"], os.environ["JOB_UID"])
        except httpx.HTTPError as error:
            sys.exit(f"no run of {name}: {str(error).splitlines()[0]}")
    sys.stdout.write(f"started {run}\n")


if __name__ == "__main__":
    main(sys.argv[1])
