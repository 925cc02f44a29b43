"""The page's own Gradio theme: system fonts, quiet greys that leave the colour to the pictures."""

from __future__ import annotations

from gradio.themes.base import Base
from gradio.themes.utils import colors, fonts, sizes

INK = colors.Color(
    name="ink",
    c50="#f8f8f9",
    c100="#f1f1f3",
    c200="#e4e4e8",
    c300="#d2d2d9",
    c400="#9c9ca8",
    c500="#6f6f7c",
    c600="#52525d",
    c700="#3a3a43",
    c800="#26262d",
    c900="#18181d",
    c950="#0f0f13",
)
IRIS = colors.Color(
    name="iris",
    c50="#f2f1fe",
    c100="#e6e4fd",
    c200="#d0ccfb",
    c300="#b1a9f7",
    c400="#9184f2",
    c500="#7464ea",
    c600="#5d4bd8",
    c700="#4c3cb8",
    c800="#3f3494",
    c900="#362f76",
    c950="#211c49",
)
SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def page_theme() -> Base:
    """A new theme. Named fonts are only ever taken from the visitor's own machine."""
    theme = Base(
        primary_hue=IRIS,
        secondary_hue=IRIS,
        neutral_hue=INK,
        radius_size=sizes.radius_lg,
        font=[fonts.Font(name) for name in SANS],
        font_mono=[fonts.Font(name) for name in MONO],
    )
    theme.name = "image-search"
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )
