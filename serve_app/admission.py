"""How many requests one API replica works on at a time; the rest are told at once to come back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.problems import problem

ALWAYS = ("/health",)
DETAIL = "too many requests at once: try again in a moment"


class ApiConfig(BaseModel):
    """The `user_config` of the API deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_in_flight: int = Field(200, ge=1, description="requests that one replica works on at a time")


class Admission:
    """The limit, which may change while requests run, and how many run."""

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.in_flight = 0


class AdmissionGate:
    """ASGI middleware: answers 503 with Retry-After beyond `admission.max_in_flight`; health is always told."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(ALWAYS):
            await self.app(scope, receive, send)
            return
        if self._admission.in_flight >= self._admission.max_in_flight:
            await problem(Request(scope), 503, "overloaded", DETAIL)(scope, receive, send)
            return
        self._admission.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._admission.in_flight -= 1
