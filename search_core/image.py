"""Bytes to an RGB picture: the one decoder, for indexing and for queries alike."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from search_core.errors import ImageError
from search_core.settings import ImageSettings

DRAFT_MARGIN: Final = 2
"""Scaled JPEG decoding keeps at least this many times the pixels asked for on each side."""

ROTATED_ORIENTATIONS: Final = frozenset({5, 6, 7, 8})
EXIF_ORIENTATION: Final = 0x0112
WHITE: Final = (255, 255, 255)
FORMATS: Final = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "QOI", "PCX", "PSD", "SGI",
)  # fmt: skip
"""What is decoded, as Pillow names it. Not EPS: Pillow hands that to an interpreter."""


@dataclass(frozen=True)
class DecodedImage:
    """An upright RGB picture and what its file said. `width` and `height` are of the upright original, in pixels."""

    rgb: Image.Image
    width: int
    height: int
    format: str


def decode_rgb(data: bytes, limits: ImageSettings, *, min_side: int | None = None) -> DecodedImage:
    """Decodes the first frame upright, alpha on white, any colour mode to RGB.

    With `min_side`, large JPEGs may be decoded at a reduced scale whose shorter side is still
    at least twice that, which is much faster and changes the model input by next to nothing.

    Raises:
        ImageError: not a picture, damaged, or beyond the limits on bytes or pixels.
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    if len(data) > limits.max_image_mb * 1e6:
        raise ImageError(
            "too_many_bytes", f"{len(data) / 1e6:.1f} MB is more than the limit of {limits.max_image_mb:g} MB"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes that we limit ourselves
        image = _open(data)
        width, height = image.size
        if width < 1 or height < 1:
            raise ImageError("zero_size", f"the picture is {width}x{height} pixels")
        if width * height > limits.max_megapixels * 1e6:
            raise ImageError(
                "too_many_pixels",
                f"{width}x{height} pixels are more than the limit of {limits.max_megapixels:g} megapixels",
            )
        try:
            return _convert(image, width, height, min_side)
        except ImageError:
            raise
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            ZeroDivisionError,
            Image.DecompressionBombError,
        ) as error:
            raise _damage(error) from None
        except Exception as error:  # decoders of rare formats raise anything on damaged input
            raise ImageError("unreadable", f"the picture cannot be decoded ({_line(error)})") from None


def _open(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError("unreadable", "the file is not a picture in a format that is known here") from None
    except Image.DecompressionBombError:
        raise ImageError("too_many_pixels", "the picture claims more pixels than can be decoded") from None
    except Exception as error:
        raise _damage(error) from None


def _convert(image: ImageFile.ImageFile, width: int, height: int, min_side: int | None) -> DecodedImage:
    kind = (image.format or "unknown").lower()
    if min_side is not None and kind in {"jpeg", "mpo"} and image.mode in {"RGB", "L"}:
        scale = max(1.0, min(width, height) / (min_side * DRAFT_MARGIN))
        image.draft(image.mode, (int(width / scale), int(height / scale)))
    image.load()
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)  # only now: loading sets a TIFF upright itself
    upright = ImageOps.exif_transpose(image)
    if orientation in ROTATED_ORIENTATIONS:
        width, height = height, width
    return DecodedImage(_to_rgb(upright), width, height, kind)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N"}:
        return _sixteen_bit_to_8(image).convert("RGB")
    if image.mode == "F":
        low, high = image.getextrema()
        span = (float(high) - float(low)) or 1.0  # type: ignore[arg-type]
        return image.point(lambda value: (value - float(low)) * (255.0 / span)).convert("L").convert("RGB")  # type: ignore[arg-type]
    if image.mode in {"RGBA", "LA", "La", "RGBa", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, WHITE)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _sixteen_bit_to_8(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; values that fit in 8 bits already stay as they are."""
    import numpy as np

    values = np.asarray(image).astype(np.int64)
    if values.max(initial=0) > 255:
        values = values >> 8
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _damage(error: BaseException) -> ImageError:
    text = _line(error)
    if "truncated" in text.lower() or "not enough" in text.lower() or isinstance(error, EOFError):
        return ImageError("truncated", f"the picture is cut off ({text})")
    return ImageError("unreadable", f"the picture is damaged ({text})")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200] or type(error).__name__
