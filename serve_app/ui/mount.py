"""The page on a FastAPI application, and the promise that it asks no other host for anything."""

from __future__ import annotations

import re
from importlib.resources import files

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.ui.page import TITLE
from serve_app.ui.theme import page_theme

STYLES = ("base.css", "ask.css", "picture.css", "results.css", "lightbox.css")

# Gradio evaluates its templates and styles its own components inline; beyond that only this site.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_OUTSIDE = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>\s*|<link rel=\"manifest\"[^>]*>\s*")
_EXAMPLE = re.compile(
    rb"https://raw\.githubusercontent\.com/[^\"\\\s]*"
)  # example values of unused API pages
_HEAD = f"""<title>{TITLE}</title>
<meta name="description" content="Find pictures by describing them, by showing one, or both." />
<meta name="color-scheme" content="light dark" />
<link rel="icon" type="image/svg+xml" href="favicon.ico" />
</head>"""


def mount_page(app: FastAPI, blocks: gr.Blocks, *, path: str = "/", max_picture_mb: int = 20) -> FastAPI:
    """Mount what `build_page` made, with its theme and styles, and close Gradio's side doors."""
    app.add_middleware(SelfContained)
    assets = files("serve_app.ui") / "assets"
    styles = "\n".join((assets / name).read_text(encoding="utf-8") for name in STYLES)
    script = (assets / "page.js").read_text(encoding="utf-8")
    gr.mount_gradio_app(
        app,
        blocks,
        path=path,
        theme=page_theme(),
        head=f"<style>\n{styles}</style>\n<script>\n{script}</script>",
        favicon_path=str(assets / "favicon.svg") if path == "/" else None,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        show_error=False,
        max_file_size=f"{max_picture_mb}mb",
    )
    return app


class SelfContained:
    """ASGI middleware: strips Gradio's outside links from its HTML and forbids other hosts to the browser.

    Only HTML is held back and rewritten; uploads, event streams and files pass through untouched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page = _Page(send)
        await self.app(_uncompressed(scope), receive, page.send)


class _Page:
    """One response: passed on as it comes, unless it is HTML."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                self._start = message
                return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        await self._flush(self._start)

    async def _flush(self, start: Message) -> None:
        body = self_contained(self._body)
        headers = MutableHeaders(raw=start["headers"])
        headers["content-length"] = str(len(body))
        headers["content-security-policy"] = CONTENT_SECURITY_POLICY
        headers["referrer-policy"] = "no-referrer"
        start["headers"] = headers.raw
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def self_contained(html: bytes) -> bytes:
    """Gradio's index page without outside addresses, with the page's own title and icon."""
    return _EXAMPLE.sub(b"", _OUTSIDE.sub(b"", html)).replace(b"</head>", _HEAD.encode(), 1)


def _uncompressed(scope: Scope) -> Scope:
    """For documents, ask Gradio for plain bytes, which is what can be rewritten; assets stay compressed."""
    accepts = [value for name, value in scope["headers"] if name == b"accept"]
    if scope["path"].strip("/") and not any(b"text/html" in value for value in accepts):
        return scope
    return {**scope, "headers": [item for item in scope["headers"] if item[0] != b"accept-encoding"]}
