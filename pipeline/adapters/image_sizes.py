"""Width and height of stored images by id, from their rows: no picture is opened for that, and each costs 40 bytes.

The columns are what ingest saw when it decoded the picture, and the audit compares them with it.
"""

from dataclasses import dataclass

import numpy as np

from schemas.boxes import Size
from schemas.errors import StoreError
from schemas.reader import Snapshot

COLUMNS = ["image_id", "width", "height"]
ID = "S32"  # all are of one length, so that the zeros numpy takes from the end of one change no order


@dataclass(frozen=True, slots=True, eq=False)
class ImageSizes:
    """`keys`: image ids as bytes, ascending; `sizes_px`: [n, 2] width and height."""

    keys: np.ndarray
    sizes_px: np.ndarray

    @classmethod
    def of(cls, snapshot: Snapshot) -> "ImageSizes":
        """Of all images of a version; any copy of an image will do, the id is the sha256 of its bytes."""
        keys, sizes = [np.zeros(0, ID)], [np.zeros((0, 2), np.int32)]
        for part in snapshot.parts("images"):
            rows = snapshot.read_part(part, COLUMNS)
            keys.append(np.frombuffer(bytes.fromhex("".join(rows["image_id"].to_pylist())), ID))
            sizes.append(np.stack([rows["width"].to_numpy(), rows["height"].to_numpy()], 1))
        found = np.concatenate(keys)
        order = np.argsort(found, kind="stable")
        return cls(found[order], np.concatenate(sizes)[order])

    def size(self, image_id: str) -> Size:
        """StoreError for an image that is in no part."""
        key = np.array(bytes.fromhex(image_id), ID)
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            raise StoreError(f"image {image_id[:12]}… is in no part of this version", fix="ingest its source again")
        width, height = self.sizes_px[place].tolist()
        return width, height
