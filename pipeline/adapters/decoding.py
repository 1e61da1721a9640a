"""Stored images as Pillow images, decoded when somebody looks at them; the ones used last stay decoded.

A shard of questions with several large images each would not fit in memory decoded at once. What is kept is bounded
in pixels, not in images. Nothing here changes a picture: no mode, size or orientation.
"""

import io
from collections import OrderedDict
from collections.abc import Callable

from PIL import Image

from schemas.boxes import Size

PIXELS_MAX = 1 << 26  # kept decoded: 64 MB of grey, 256 MB of colour; one larger image is kept alone


class Decoder:
    """Images by id; `read` gives the stored bytes. All who ask for an image share it, so nobody may change it."""

    def __init__(self, read: Callable[[str], bytes], pixels_max: int = PIXELS_MAX) -> None:
        self._read, self._pixels_max = read, pixels_max
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()
        self._n_pixels = 0

    def size(self, image_id: str) -> Size:
        """Width and height, from the head of the file."""
        if image_id in self._kept:
            return self._kept[image_id].size
        with Image.open(io.BytesIO(self._read(image_id))) as image:
            return image.size

    def image(self, image_id: str) -> Image.Image:
        if image_id not in self._kept:
            image = Image.open(io.BytesIO(self._read(image_id)))
            image.load()
            self._kept[image_id] = image
            self._n_pixels += image.width * image.height
        self._kept.move_to_end(image_id)
        while self._n_pixels > self._pixels_max and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._n_pixels -= dropped.width * dropped.height
        return self._kept[image_id]
