"""What the model reads and writes, as frozen records: encoded images, token rows, scores.

A `TokenRow` is the only form in which text reaches the policy: ids that were produced turn by
turn, a mark for each token the policy has to answer for, and the images of its placeholder
runs. Nothing here tokenises, pads or touches a model.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from schemas.errors import InputError

MERGE = 2  # Qwen2.5-VL's spatial_merge_size: 2 × 2 patches of 14 px make one token of 28 px


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as the vision tower takes it, named by its content.

    `pixel_values` is float32 [t·h·w, 1176]; `grid_thw` counts patches of 14 px. Two images are the
    same when their keys are: all placeholders share one token id, so ids alone cannot tell.
    """

    key: str
    pixel_values: torch.Tensor = field(compare=False, repr=False)
    grid_thw: tuple[int, int, int]

    @classmethod
    def of(cls, pixel_values: torch.Tensor, grid_thw: Sequence[int]) -> "EncodedImage":
        """`pixel_values` under the key sha256(pixels + grid)."""
        frames, height, width = (int(n) for n in grid_thw)
        digest = hashlib.sha256(pixel_values.contiguous().numpy())
        digest.update(repr((frames, height, width)).encode())
        return cls(digest.hexdigest(), pixel_values, (frames, height, width))

    @property
    def merged_grid(self) -> tuple[int, int]:
        """Rows and columns of merged tokens."""
        return self.grid_thw[1] // MERGE, self.grid_thw[2] // MERGE

    @property
    def n_tokens(self) -> int:
        rows, columns = self.merged_grid
        return self.grid_thw[0] * rows * columns


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One sequence: a prompt of `n_prompt` tokens that a group may share, then a continuation.

    `is_written[t]` says that the policy wrote token t (or shall learn to): only such tokens carry
    loss, and none of them is in the prompt. `images` are in the order of their placeholder runs.
    `name` is what an error message calls this row.
    """

    ids: tuple[int, ...]
    is_written: tuple[bool, ...]
    images: tuple[EncodedImage, ...]
    n_prompt: int
    name: str = "row"

    def __post_init__(self) -> None:
        if len(self.is_written) != len(self.ids):
            raise InputError(f"{len(self.is_written)} marks for {len(self.ids)} tokens", where=self.name)
        if not 1 <= self.n_prompt <= len(self.ids):
            raise InputError(f"a prompt of {self.n_prompt} tokens in a row of {len(self.ids)}", where=self.name)
        if any(self.is_written[: self.n_prompt]):
            raise InputError("a token of the prompt is marked as written by the policy", where=self.name)

    @classmethod
    def prompt(cls, ids: Sequence[int], images: Sequence[EncodedImage] = (), name: str = "prompt") -> "TokenRow":
        """A row that is all prompt, as rollouts start from."""
        return cls(tuple(ids), (False,) * len(ids), tuple(images), len(ids), name)

    @property
    def written_at(self) -> list[int]:
        """Indices of the tokens that carry loss."""
        return [index for index, written in enumerate(self.is_written) if written]

    @property
    def image_keys(self) -> tuple[str, ...]:
        return tuple(image.key for image in self.images)


class Scores(NamedTuple):
    """Of one row's written tokens, in order: log-probability and full-vocabulary entropy, nats, [n_written]."""

    logprobs: torch.Tensor
    entropies: torch.Tensor


class ImageSpan(NamedTuple):
    """Tokens start…stop−1 of a row show `image`."""

    start: int
    stop: int
    image: EncodedImage


def image_spans(
    ids: Sequence[int], images: Sequence[EncodedImage], image_id: int, name: str = "row"
) -> list[ImageSpan]:
    """Where each image lies; InputError, naming the row, unless the placeholders are exactly those of `images`."""
    spans, at, row = [], 0, tuple(ids)
    for image in images:
        try:
            at = row.index(image_id, at)
        except ValueError:
            raise _misfit(ids, images, image_id, name) from None
        stop = at + image.n_tokens
        if row[at:stop] != (image_id,) * image.n_tokens:
            raise _misfit(ids, images, image_id, name)
        spans.append(ImageSpan(at, stop, image))
        at = stop
    if image_id in row[at:]:
        raise _misfit(ids, images, image_id, name)
    return spans


def _misfit(ids: Sequence[int], images: Sequence[EncodedImage], image_id: int, name: str) -> InputError:
    wanted = [image.n_tokens for image in images]
    found = sum(token == image_id for token in ids)
    return InputError(
        f"{found} image placeholder tokens, but the images need {wanted}",
        where=name,
        fix="write exactly one run of placeholders per image and never cut inside a run",
    )


def distinct_images(rows: Sequence[TokenRow]) -> list[EncodedImage]:
    """Every image of `rows` once, in order of first appearance."""
    return list({image.key: image for row in rows for image in row.images}.values())
