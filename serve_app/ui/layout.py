"""The page's fields, buttons and places for HTML. Their element ids are what tests and styles hold on to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import gradio as gr

from serve_app.ui import results
from serve_app.ui.requests import BALANCED, DEFAULT_LIMIT


@dataclass(frozen=True)
class Fields:
    """Every component that the wiring reads or writes."""

    text: gr.Textbox
    picture: gr.Image
    without: gr.Textbox
    weight: gr.Slider
    limit: gr.Slider
    search: gr.Button
    clear: gr.Button
    examples: gr.HTML
    similar: gr.HTML
    status: gr.HTML
    results: gr.HTML


def lay_out(examples: Sequence[str], max_results: int) -> Fields:
    """Create the components, inside the `gr.Blocks` that is open."""
    _html(asset("masthead.html"), "masthead")
    with gr.Column(elem_id="ask"):
        text = gr.Textbox(
            label="Describe a picture",
            show_label=False,
            placeholder="Describe a picture: a dog running in the snow",
            lines=1,
            max_lines=1,
            autofocus=True,
            elem_id="text",
            html_attributes=gr.InputHTMLAttributes(enterkeyhint="search", autocomplete="off"),
        )
        search = gr.Button("Search", variant="primary", elem_id="search")
        picture = gr.Image(
            label="Picture to look for",
            show_label=False,
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=[],
            placeholder="# Add a picture\nDrop, paste or choose one",
            alt_text="The picture to look for",
            elem_id="picture",
        )
        without = gr.Textbox(
            label="Without",
            placeholder="things to leave out",
            lines=1,
            max_lines=1,
            elem_id="without",
            html_attributes=gr.InputHTMLAttributes(enterkeyhint="search", autocomplete="off"),
        )
        limit = gr.Slider(
            1,
            max_results,
            value=min(DEFAULT_LIMIT, max_results),
            step=1,
            label="Results",
            buttons=[],
            elem_id="limit",
        )
        weight = gr.Slider(
            0, 1, value=BALANCED, step=0.05, label="Words or picture", buttons=[], elem_id="weight"
        )
        clear = gr.Button("Clear", variant="secondary", elem_id="clear")
        tries = _html(results.examples_html(tuple(examples)), "examples", asset("examples.js"))
    similar = _html("", "similar", asset("similar.js"))
    status = _html("", "status")
    found = _html(results.message_html(*results.START), "results", asset("results.js"))
    _html(asset("lightbox.html"), "lightbox", asset("lightbox.js"))
    return Fields(text, picture, without, weight, limit, search, clear, tries, similar, status, found)


def asset(name: str) -> str:
    """A file of the package's `assets` folder."""
    return (files("serve_app.ui") / "assets" / name).read_text(encoding="utf-8")


def _html(value: str, elem_id: str, script: str | None = None) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, js_on_load=script, apply_default_css=False)
