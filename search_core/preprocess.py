"""An RGB picture to the uint8 pixels that an encoder takes: open_clip's resize and crop, without torch.

Equal to `open_clip.transform.image_transform` up to its last step, the normalisation, which the encoder
does on its own device: pixels travel as uint8, a quarter of the size. A parity test holds the two together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from search_core.image import decode_rgb
from search_core.model import Preprocess
from search_core.settings import ImageSettings

Pixels = npt.NDArray[np.uint8]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

MAX_ELONGATION = 50
"""Of a picture longer than this many times its width only the middle is resized: the rest would be cropped away, and
resizing a strip of 1 x 100,000 pixels by its shorter side would fill the memory."""


def to_pixels(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Resizes and crops or pads an RGB picture to uint8 [height, width, 3]."""
    height, width = preprocess.size
    resample = FILTERS.get(preprocess.interpolation, Image.Resampling.BICUBIC)
    if preprocess.resize_mode == "squash":
        fitted = image.resize((width, height), resample)
    elif preprocess.resize_mode == "longest":
        ratio = max(image.height / height, image.width / width)
        fitted = image.resize(
            (max(1, round(image.width / ratio)), max(1, round(image.height / ratio))), resample
        )
    elif height == width:
        middle = _middle(image)
        fitted = middle.resize(_shortest_edge(middle.width, middle.height, height), resample)
    else:  # open_clip is bicubic here, whatever its configuration says
        middle = _middle(image)
        ratio = min(middle.height / height, middle.width / width)
        size = (round(middle.width / ratio), round(middle.height / ratio))
        fitted = middle.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(_center(fitted, width, height, preprocess.fill_color))


def _middle(image: Image.Image) -> Image.Image:
    """The picture, without the ends of one that is far too long."""
    longest = MAX_ELONGATION * min(image.size)
    if max(image.size) <= longest:
        return image
    left, top = max(0, image.width - longest) // 2, max(0, image.height - longest) // 2
    return image.crop((left, top, image.width - left, image.height - top))


def _shortest_edge(width: int, height: int, size: int) -> tuple[int, int]:
    """The size that torchvision's `Resize(size)` gives: the longer side is cut, not rounded."""
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _center(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Crops or pads to the middle, rounding as torchvision's `center_crop` does."""
    if image.size == (width, height):
        return image
    if image.width < width or image.height < height:
        canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)), (fill, fill, fill))
        canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
        image = canvas
    left = round((image.width - width) / 2.0)
    top = round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def pixels_of(data: bytes, preprocess: Preprocess, limits: ImageSettings) -> Pixels:
    """Compressed bytes to uint8 [height, width, 3] in one step, as a query needs them.

    Raises:
        ImageError: as `decode_rgb`.
    """
    return to_pixels(decode_rgb(data, limits, min_side=max(preprocess.size)).rgb, preprocess)
