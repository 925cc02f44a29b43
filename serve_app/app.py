"""The composition root: the only place that makes deployments and binds them to one another.

Two applications, `search` under /api and `ui` at the root. Numbers (replicas, CPUs, batch sizes, queues) are
in the Serve config (`cluster/serve-*.yaml`) and nowhere else; Serve reads it itself when it deploys the
builders `search_app` and `ui_app`, and `build_applications` applies it for `serve.run_many`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.api import RunTarget
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from search_core.errors import UsageError
from search_core.model import ModelSpec, resolve_model
from search_core.settings import Settings, load_settings
from serve_app.api_deployment import SearchApi
from serve_app.encoders import ImageEncoder, TextEncoder
from serve_app.page_deployment import Page
from serve_app.retrieval_deployment import RetrievalReplica

SEARCH_APP = "search"
UI_APP = "ui"
API_DEPLOYMENT = "Api"

Options = Mapping[str, Mapping[str, Any]]


class SearchArgs(BaseModel):
    """`args` of the search application in a Serve config: none, as its settings are the environment's."""

    model_config = ConfigDict(extra="forbid")


class UiArgs(BaseModel):
    """`args` of the page's application in a Serve config."""

    model_config = ConfigDict(extra="forbid")

    examples: list[str] = Field(default_factory=list, description="searches that the page suggests")


def search_app(args: dict[str, Any]) -> Application:
    """Builds the search application for a Serve config, with the settings of the environment."""
    settings = load_settings()
    return _search(settings, resolve_model(settings.model.name), SearchArgs(**args), {})


def ui_app(args: dict[str, Any]) -> Application:
    """Builds the page's application for a Serve config, with the settings of the environment."""
    return _ui(load_settings(), UiArgs(**args), {})


def build_applications(settings: Settings, spec: ModelSpec, config: ServeDeploySchema) -> list[RunTarget]:
    """The applications of a Serve config for `serve.run_many`, with the settings of this process.

    Raises:
        UsageError: the config names an application or deployment that is not there.
    """
    builders: dict[str, Callable[[ServeApplicationSchema, Options], Application]] = {
        SEARCH_APP: lambda app, options: _search(settings, spec, SearchArgs(**app.args), options),
        UI_APP: lambda app, options: _ui(settings, UiArgs(**app.args), options),
    }
    targets = []
    for app in config.applications:
        if app.name not in builders:
            raise UsageError(
                f"the Serve config names application {app.name!r}: there are {', '.join(builders)}"
            )
        target = builders[app.name](app, _options(app))
        targets.append(
            RunTarget(target, app.name, app.route_prefix, app.logging_config or config.logging_config)
        )
    return targets


def _search(settings: Settings, spec: ModelSpec, args: SearchArgs, options: Options) -> Application:
    graph = _Graph(options)
    texts = graph.bind("TextEncoder", TextEncoder, spec, settings.model)
    images = graph.bind("ImageEncoder", ImageEncoder, spec, settings.model, settings.image)
    retrieval = graph.bind("Retrieval", RetrievalReplica, settings)
    api = graph.bind(API_DEPLOYMENT, serve.ingress()(SearchApi), spec, settings, texts, images, retrieval)
    return graph.complete(api)


def _ui(settings: Settings, args: UiArgs, options: Options) -> Application:
    graph = _Graph(options)
    return graph.complete(
        graph.bind("Page", serve.ingress()(Page), settings, args.examples, API_DEPLOYMENT, SEARCH_APP)
    )


class _Graph:
    """Binds deployments with the options that a Serve config has for them."""

    def __init__(self, options: Options) -> None:
        self._options = dict(options)

    def bind(self, name: str, body: type, *args: Any) -> Application:
        options = dict(self._options.pop(name, {}))
        deployment = cast(Deployment, serve.deployment(body))
        return deployment.options(name=name, **options).bind(*args)

    def complete(self, ingress: Application) -> Application:
        """The application; refuses options that nothing took."""
        if self._options:
            raise UsageError(f"the Serve config names unknown deployments: {', '.join(self._options)}")
        return ingress


def _options(app: ServeApplicationSchema) -> Options:
    return {one.name: one.model_dump(exclude_unset=True, exclude={"name"}) for one in app.deployments}
