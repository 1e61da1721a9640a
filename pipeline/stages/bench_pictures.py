"""A folder of distinct JPEGs in the MEVF layout of VQA-RAD, one question each: something to read at any size.

The pictures are blurred noise with grain, every second in colour, as sources of radiographs and of photographs have
them; all are stored as RGB. They mean nothing. The same (index, side) gives the same picture.
"""

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from schemas.seeds import digest_int

BLOBS = 12  # blobs per side
GRAIN_LEVELS = 6.0
QUALITY = 90
TEST_SHARE = 10  # every tenth question


def jpeg(index: int, side_px: int) -> bytes:
    draw = np.random.default_rng(digest_int("bench picture", index))
    blobs = draw.integers(0, 256, (BLOBS, BLOBS, 3 if index % 2 else 1), np.uint8)
    picture = Pillow.fromarray(np.broadcast_to(blobs, (BLOBS, BLOBS, 3)))
    levels = np.asarray(picture.resize((side_px, side_px), Pillow.Resampling.BICUBIC), np.float32)
    grain = draw.standard_normal((side_px, side_px, 1), np.float32) * GRAIN_LEVELS
    buffer = io.BytesIO()
    Pillow.fromarray((levels + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def write_pictures(images: Path, indices: Sequence[int], side_px: int) -> None:
    for index in indices:
        (images / name_of(index)).write_bytes(jpeg(index, side_px))


def name_of(index: int) -> str:
    return f"{index:06d}.jpg"


def write_folder(root: Path, n_images: int, side_px: int, workers: int) -> None:
    """`root/images`, `root/trainset.json` and `root/testset.json`."""
    (root / "images").mkdir(parents=True)
    runs = [range(start, n_images, 4 * workers) for start in range(min(n_images, 4 * workers))]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(partial(write_pictures, root / "images", side_px=side_px), runs))
    _write_questions(root, n_images)


def link_folder(root: Path, whole: Path, n_images: int) -> None:
    """The first images of `whole` as a folder of their own, as links."""
    (root / "images").mkdir(parents=True)
    for index in range(n_images):
        os.link(whole / "images" / name_of(index), root / "images" / name_of(index))
    _write_questions(root, n_images)


def _write_questions(root: Path, n_images: int) -> None:
    rows = [
        {"qid": index, "image_name": name_of(index), "question": "Is it bright?", "answer": ("yes", "no")[index % 2]}
        for index in range(n_images)
    ]
    (root / "testset.json").write_text(json.dumps(rows[::TEST_SHARE]), encoding="utf-8")
    rest = [row for row in rows if row["qid"] % TEST_SHARE]
    (root / "trainset.json").write_text(json.dumps(rest), encoding="utf-8")
