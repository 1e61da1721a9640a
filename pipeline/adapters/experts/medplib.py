"""The expert behind MedPLIB, in an environment and a process of its own: a client of `medplib_server`.

Scan: the whole image and a grounding request; the components of the mask that comes back. Drill: the crop of the look,
the region in it, and a yes or no; P(yes) / (P(yes) + P(no)). Every image asked about leaves this machine for `url`:
whether a data set's licence allows that is for its user to know. Which weights answer is a setting, compared with what
the server says before the first question and in each answer. What fails for one question is a `Failure`; what would
fail for all stops the build.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from pipeline.adapters.addresses import api_key, checked_address
from pipeline.adapters.crew import Once
from pipeline.adapters.endpoint import Endpoint, Limits
from pipeline.adapters.experts.coordinate_check import drawing
from pipeline.adapters.experts.medplib_answers import drill_answer, kept_to, scan_answer
from pipeline.adapters.experts.medplib_contract import CONTRACT, text_problem, to_unit
from pipeline.adapters.experts.medplib_wording import SHIPPED, Wording
from pipeline.adapters.experts.settings import check_types
from pipeline.adapters.experts.views import data_url, drill_view, scan_view
from schemas.boxes import Box, Size, clamp, whole
from schemas.experts import Ask, Drill, ExpertIdentity, Failure, Seen
from schemas.frames import crop_box

REVISION = 1
SILENT = frozenset(("url", *(each.name for each in fields(Limits))))
SIDES = {"view_px": 28, "crop_px": 28, "boxes_max": 1}  # setting → least value
DRILLS = ("crop", "whole")
Shown = tuple[Size, str]  # of the picture, and its PNG in base64


@dataclass(frozen=True)
class MedplibExpert:
    """Settings; those in `SILENT` change no answer and enter no identity.

    `revision`: of weights and settings, as the server's health tells it. `drill_on`: crop shows the look alone, so that
    a closer look can say more; whole shows the image as MedPLIB was trained, and every round of a region alike.
    `prompts`: a file of one's own.
    """

    url: str = ""
    revision: str = ""
    prompts: str = ""
    drill_on: str = "crop"
    view_px: int = 672  # longest side of a scan's picture; MedPLIB itself sees 336 and draws at 256
    crop_px: int = 336  # … of a drill's
    boxes_max: int = 8
    concurrency: int = 4  # one GPU answers one at a time; the others are on their way
    connect_s: float = 10.0
    read_s: float = 120.0
    whole_s: float = 300.0
    tries: int = 5
    wait_s: float = 1.0
    wait_max_s: float = 60.0
    breaker_at: int = 16

    is_costly: ClassVar[bool] = True
    shards_at_once: ClassVar[int] = 4

    def __post_init__(self) -> None:
        check_types(self)
        checked_address(self.url)
        if not self.revision.strip():
            raise ValueError("revision is missing: the one that GET …/v1/health of the server tells")
        if self.drill_on not in DRILLS:
            raise ValueError(f"drill_on must be one of {DRILLS}, got {self.drill_on!r}")
        for name, least in SIDES.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)!r}")
        if self.boxes_max > 64:
            raise ValueError(f"boxes_max must be at most 64, got {self.boxes_max!r}")
        limits = Limits(**{each.name: getattr(self, each.name) for each in fields(Limits)})
        made = {  # each by the first thread that wants it
            "_endpoint": Once(lambda: Endpoint(self.url, api_key(self.url, os.environ), limits)),
            "_wording": Once(lambda: Wording.read(Path(self.prompts) if self.prompts else SHIPPED)),
            "_is_checked": Once(self._checked),
        }
        for name, once in made.items():
            object.__setattr__(self, name, once)

    @cached_property
    def identity(self) -> ExpertIdentity:
        """The address is not in it: the same weights elsewhere are the same expert."""
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in SILENT}
        settings |= {"prompts": self._wording().sha256, "contract": CONTRACT}
        return ExpertIdentity("medplib", str(REVISION), tuple(sorted(settings.items())))

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        """What would be asked in the same words about the same picture is asked once, for however many questions."""
        _ = self._is_checked()
        for ask in asks:
            ask.image.load()  # here, since threads may not do it together
        images = {ask.image_id: ask.image for ask in asks}
        requests = [self._request(ask) for ask in asks]
        distinct = dict.fromkeys(each for each in requests if isinstance(each, _Request))
        in_order = sorted(distinct, key=lambda each: each.image_id)  # so that few pictures are kept ready
        n_whole = Counter(each.image_id for each in in_order if each.look_xyxy_px is None)
        ready = {each: Once(partial(self._whole, images[each]), n) for each, n in n_whole.items()}
        told = self._endpoint().each(lambda each: self._told(each, images[each.image_id], ready), in_order)
        if self._endpoint().is_in_doubt:
            self._prove_alive()
        replies = dict(zip(in_order, told, strict=True))
        return [
            request if isinstance(request, Failure) else self._read(ask, *replies[request])
            for ask, request in zip(asks, requests, strict=True)
        ]

    def take_usage(self) -> dict[str, Any]:
        """Requests and seconds since it was last asked, for work/."""
        return asdict(self._endpoint().take_usage())

    def close(self) -> None:
        self._endpoint().close()

    def _checked(self) -> bool:
        """ExpertError unless the server speaks this contract and has the weights that are expected."""
        told = self._endpoint().post("health", {})
        told = told if isinstance(told, Failure) else kept_to("health", told) or told
        if isinstance(told, Failure):
            self._endpoint().stop(f"says nothing usable of itself ({_why(told)})", "is this a server for MedPLIB?")
        if told["contract"] != CONTRACT:
            fix = "run the server and the build from one version of fovea"
            self._endpoint().stop(f"speaks {_ascii(told['contract'])}, not {CONTRACT}", fix)
        self._same_weights(told["revision"])
        return True

    def _prove_alive(self) -> None:
        """ExpertError where a drawing cannot be scanned either: the failures say nothing about the questions."""
        plain = _Request("scan", "drawing", "Please locate the bright rectangle in the image.")
        _, told = self._told(plain, drawing(), {plain.image_id: partial(self._whole, drawing())})
        if isinstance(told, Failure):
            fix = "mend it; run again later"
            self._endpoint().stop(f"answers no more, not even about a drawing ({_why(told)})", fix)

    def _request(self, ask: Ask) -> "_Request | Failure":
        query, words, look, box = ask.query, {"question": ask.question.question}, None, None
        if isinstance(query, Drill):
            look = query.look_xyxy_px if self.drill_on == "crop" else None
            box = _unit(query.box_xyxy_px, crop_box(look or whole(ask.image.size), ask.image.size))
            if box is None:
                return Failure("no_region", "nothing of the region lies in what would be shown")
            text = self._wording().drill.substitute(words, label=query.label).strip()
        else:
            text = self._wording().scan.substitute(words).strip()
        if why := text_problem(text, with_region=box is not None):
            return Failure("unaskable", f"the text {why}")
        return _Request("drill" if box else "scan", ask.image_id, text, look, box)

    def _told(
        self, request: "_Request", image: Image.Image, ready: Mapping[str, Callable[[], Shown]]
    ) -> tuple[Size, dict[str, Any] | Failure]:
        """The size that was shown, and a reply that keeps to the contract."""
        look = request.look_xyxy_px
        size, picture = ready[request.image_id]() if look is None else _shown(drill_view(image, look, self.crop_px, 1))
        told: dict[str, Any] = {"max_regions": self.boxes_max, "query": request.text}
        if request.path == "drill":
            told = {"box_xyxy_norm": request.box_xyxy_norm, "question": request.text}
        reply = self._endpoint().post(request.path, {"image_b64": picture, **told})
        if isinstance(reply, Failure):
            return size, reply
        if wrong := kept_to(f"{request.path}_answer", reply):
            return size, wrong
        self._same_weights(reply["revision"])
        return size, reply

    def _read(self, ask: Ask, size: Size, told: dict[str, Any] | Failure) -> Seen | Failure:
        if isinstance(told, Failure):
            return told
        if isinstance(ask.query, Drill):
            return drill_answer(told, ask.query)
        return scan_answer(told, self.boxes_max, size, ask.image.size)

    def _same_weights(self, revision: str) -> None:
        if revision != self.revision:
            what = f"has other weights or settings: revision {_ascii(revision)}, not {_ascii(self.revision)}"
            self._endpoint().stop(what, f"start the one that is wanted, or set revision={_ascii(revision)}")

    def _whole(self, image: Image.Image) -> Shown:
        return _shown(scan_view(image, self.view_px, 1))


@dataclass(frozen=True, slots=True)
class _Request:
    """Everything that enters a body but the settings; `look_xyxy_px` None: the whole image is shown."""

    path: str
    image_id: str
    text: str
    look_xyxy_px: Box | None = None
    box_xyxy_norm: Box | None = None


def _unit(box_xyxy_px: Box, block: tuple[int, int, int, int]) -> Box | None:
    """The box as fractions of a block of the image; None where none of it lies there."""
    size = block[2] - block[0], block[3] - block[1]
    inside = clamp(tuple(edge - block[i % 2] for i, edge in enumerate(box_xyxy_px)), size)
    return None if inside is None else to_unit(inside, size)


def _shown(view: Image.Image) -> Shown:
    return view.size, data_url(view).partition(",")[2]


def _why(failure: Failure) -> str:
    return f"{failure.error_class}: {failure.message} {failure.raw}"[:300].rstrip()


def _ascii(text: str) -> str:
    """Without anything that a terminal would obey."""
    return ascii(text)[1:-1][:100]
