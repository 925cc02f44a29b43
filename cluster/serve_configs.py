"""The Serve configs: those that are shipped, and others by path."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from search_core.errors import UsageError

NAMES = ("local", "gpu", "cluster")


def load(name: str) -> ServeDeploySchema:
    """The Serve config `serve-<name>.yaml` of this package, or the one at a path.

    Raises:
        UsageError: there is no such file, or it is no Serve config.
    """
    shipped = name in NAMES
    path = files(__package__) / f"serve-{name}.yaml" if shipped else Path(name)
    if not path.is_file():
        raise UsageError(f"no Serve config {name}: take {', '.join(NAMES)} or the path of one")
    try:
        return ServeDeploySchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:200]
        raise UsageError(f"{name} is no Serve config: {line}") from None
