"""The look: a calm instrument. One accent, system-like greys, fonts that ship with gradio (nothing is downloaded)."""

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.fonts import LocalFont

BLUE = Color(
    *("#f2f6ff", "#e3ebff", "#c7d6ff", "#a2bbff", "#7ea2ff", "#4f7df3"),
    *("#2b59c3", "#234aa3", "#1c3b82", "#162d63", "#0f1f45"),
    name="blue",
)
SLATE = Color(
    *("#f7f8f9", "#eef0f2", "#e1e5e9", "#c9d0d7", "#98a2ad", "#6b7680"),
    *("#4c555e", "#363d45", "#232930", "#15191e", "#0e1114"),
    name="slate",
)


def instrument() -> gr.themes.Base:
    """The theme; theme.css does the rest."""
    # Weights 400 and 700 only: the semibold files in gradio's wheel hold but a few letters.
    theme = gr.themes.Base(
        primary_hue=BLUE,
        secondary_hue=BLUE,
        neutral_hue=SLATE,
        text_size="md",
        spacing_size="md",
        radius_size="sm",
        font=[LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "Consolas", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="#16191d",
        body_text_color_dark="#e6e9ec",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="#ffffff",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_label_text_weight="600",
        block_shadow="none",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2a3037",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="#ffffff",
        block_info_text_color="#626d77",
        block_info_text_color_dark="#96a1ac",
        body_text_color_subdued="#626d77",
        body_text_color_subdued_dark="#96a1ac",
        input_background_fill="#ffffff",
        input_background_fill_dark="*neutral_900",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )
