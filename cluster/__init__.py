"""How it runs: Serve configs for one machine and for clusters. Only the command line imports this."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema


def load(name: str) -> ServeDeploySchema:
    """The Serve config `serve-<name>.yaml` of this package."""
    import yaml
    from ray.serve.schema import ServeDeploySchema  # a second, which `image-search plan` has no use for

    text = (files(__name__) / f"serve-{name}.yaml").read_text(encoding="utf-8")
    return ServeDeploySchema.model_validate(yaml.safe_load(text))
