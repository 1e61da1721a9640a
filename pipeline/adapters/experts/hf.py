"""The expert that is a vision-language model on this machine: Qwen2.5-VL or Qwen3-VL, from a folder, in batches.

It asks as the `openai` expert does, with the same prompts, and reads what is written in the same way. Scan: the whole
image; the boxes of the JSON reply. Drill: the crop of the look, and P(yes) / (P(yes) + P(no)) from one forward pass.
Writing is greedy. How a batch is made up can change the last bits of a number, and so, where two words are equally
likely, an answer: it depends on the asks of a call, never on their order, and what was recorded is the truth.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from pipeline.adapters.experts.coordinate_check import MARK, check_coordinates, drawing
from pipeline.adapters.experts.grounding import Frame
from pipeline.adapters.experts.halving import Halving
from pipeline.adapters.experts.hf_checkpoint import Checkpoint
from pipeline.adapters.experts.readings import Reading, drill_answer, raw_of, scan_answer
from pipeline.adapters.experts.settings import check_types
from pipeline.adapters.experts.token_odds import Said, are_sound
from pipeline.adapters.experts.views import drill_view, scan_view
from pipeline.adapters.experts.wording import FAMILIES, Wording
from schemas.boxes import grow
from schemas.errors import ExpertError
from schemas.experts import Ask, Drill, ExpertIdentity, Failure, Seen

if TYPE_CHECKING:  # torch is imported when the model is wanted, not when its identity is
    from pipeline.adapters.experts.hf_model import LocalModel

REVISION = 1
SILENT = frozenset(("path", "device", "batch"))
DTYPES = ("bfloat16", "float32")
DEVICE = re.compile("auto|cpu|cuda(:[0-9]+)?")
USED = ("n_asks", "tokens_in", "tokens_out", "seconds")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A picture, what is asked about it, and how the reply is read."""

    picture: Image.Image
    prompt: str
    read: Callable[[Said], Any]


@dataclass(frozen=True)
class HfExpert:
    """Settings; those in `SILENT` enter no identity: a model is known by its bytes, not by where it lies.

    `coordinates`: as its family counts, unless given: absolute (pixels of what it is shown), thousand or unit.
    `drill_tokens`: 1 asks for yes or no alone; more let the model also say what the crop shows. `check`: a drawn
    picture is located first. `prompts`: a file of one's own.
    """

    is_costly: ClassVar[bool] = True
    shards_at_once: ClassVar[int] = 1

    path: str = ""
    dtype: str = "bfloat16"
    device: str = "auto"
    batch: int = 8
    coordinates: str = ""
    prompts: str = ""
    check: bool = True
    view_px: int = 1008  # longest side of a scan's picture
    crop_px: int = 448  # … of a drill's
    scan_confidence: str = "stated"
    drill_confidence: str = "logprobs"
    prior: float | None = None
    boxes_max: int = 8
    max_tokens: int = 1024
    drill_tokens: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "coordinates", self.coordinates or self._checkpoint.coordinates)
        if self.coordinates not in FAMILIES:
            raise ValueError(f"coordinates must be one of {FAMILIES}, got {self.coordinates!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {DTYPES}, got {self.dtype!r}")
        if not DEVICE.fullmatch(self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {self.device!r}")
        least = {"batch": 1, "max_tokens": 1, "drill_tokens": 1, "view_px": self._step_px, "crop_px": self._step_px}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)!r}")
        _ = self._reading

    @cached_property
    def identity(self) -> ExpertIdentity:
        settings = {name: value for name, value in asdict(self).items() if name not in SILENT}
        settings |= {"prompts": self._wording.sha256, "weights": self._checkpoint.sha256}
        return ExpertIdentity("hf", str(REVISION), tuple(sorted(settings.items())))

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        """Scans, then drills, the largest pictures first and like sizes together, whatever order they came in."""
        _ = self._is_checked
        order = sorted(range(len(asks)), key=lambda place: self._rank(asks[place]))
        answers: dict[int, Seen | Failure] = {}
        for is_drill in (False, True):
            places = [place for place in order if isinstance(asks[place].query, Drill) is is_drill]
            work = partial(self._answered, is_drill=is_drill)
            answers |= zip(places, self._halving.each(work, [asks[each] for each in places], self.batch), strict=True)
        return [answers[place] for place in range(len(asks))]

    def take_usage(self) -> dict[str, Any]:
        """Asks, tokens and seconds since it was last asked, and how often a batch had to be halved."""
        used = {name: self._used[name] for name in USED} | {"n_halvings": self._halving.n}
        self._used.clear()
        self._halving.n = 0
        return used

    def close(self) -> None:
        """Lets go of the model; another question would load it again."""
        if self.__dict__.pop("_model", None) is not None:
            _free()

    @property
    def _step_px(self) -> int:
        return self._checkpoint.multiple_px

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint.at(self.path)

    @cached_property
    def _wording(self) -> Wording:
        return Wording.read(Path(self.prompts)) if self.prompts else Wording.named("openai")

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self.scan_confidence, self.drill_confidence, self.prior, self.boxes_max)

    @cached_property
    def _model(self) -> "LocalModel":
        from pipeline.adapters.experts.hf_model import LocalModel

        return LocalModel.load(self._checkpoint, self.dtype, self.device)

    @cached_property
    def _halving(self) -> Halving:
        return Halving(_free)

    @cached_property
    def _used(self) -> Counter[str]:
        return Counter()

    @cached_property
    def _is_checked(self) -> bool:
        """ExpertError unless the model counts as declared, and says yes or no about a crop."""
        if not self.check:
            return False
        view = scan_view(drawing(), self.view_px, self._step_px)
        where = _Asked(view, self._wording.check(self.coordinates, view.size), lambda said: said)
        located = self._alone(where, is_drill=False, what="a drawn rectangle")
        check_coordinates(located.text, self.coordinates, view.size)
        drill = Drill(MARK, "bright rectangle", grow(MARK, 0.5), 1)
        self._alone(self._drill("Is there a bright rectangle?", drawing(), drill), is_drill=True, what="a crop")
        return True

    def _alone(self, asked: _Asked, *, is_drill: bool, what: str) -> Any:
        (told,) = self._halving.each(partial(self._told, is_drill=is_drill), [asked], 1)
        if isinstance(told, Failure):
            fix = "check=false asks the model all the same"
            why = f"{told.error_class}: {told.message}"
            raise ExpertError(f"the expert cannot be asked about {what}: {why}", where=told.raw[:300] or None, fix=fix)
        return told

    def _rank(self, ask: Ask) -> tuple[float, int, str, str, str]:
        """By the size of what is shown and the length of what is asked, then by what the ask is."""
        is_drill = isinstance(ask.query, Drill)
        x0, y0, x1, y1 = ask.query.look_xyxy_px if is_drill else (0, 0, *ask.image.size)
        longest = max(x1 - x0, y1 - y0)
        shown_px = self.crop_px if is_drill else min(longest, self.view_px)
        text = ask.question.question
        return -(x1 - x0) * (y1 - y0) * (shown_px / longest) ** 2, -len(text), text, ask.image_id, repr(ask.query)

    def _answered(self, asks: Sequence[Ask], *, is_drill: bool) -> list[Seen | Failure]:
        make = self._drill if is_drill else self._scan
        return self._told([make(ask.question.question, ask.image, ask.query) for ask in asks], is_drill=is_drill)

    def _scan(self, question: str, image: Image.Image, _: object) -> _Asked:
        view = scan_view(image, self.view_px, self._step_px)
        prompt = self._wording.scan(question, self.coordinates, view.size, self.boxes_max)
        return _Asked(view, prompt, partial(self._boxes, frame=Frame(self.coordinates, view.size, image.size)))

    def _drill(self, question: str, image: Image.Image, query: Drill) -> _Asked:
        view = drill_view(image, query.look_xyxy_px, self.crop_px, self._step_px)
        prompt = self._wording.drill(question, query.label, stated=self.drill_confidence == "stated")
        return _Asked(view, prompt, partial(drill_answer, query=query, reading=self._reading))

    def _boxes(self, said: Said, frame: Frame) -> Seen | Failure:
        if not are_sound(said.tokens or ()):
            return Failure("nan", "a log-probability is no number below 0", raw_of(said))
        if not said.text.strip():
            return Failure("empty", "the model wrote nothing" + (" within max_tokens" if said.is_cut else ""))
        return scan_answer(said, frame, self._reading)

    def _told(self, batch: Sequence[_Asked], *, is_drill: bool) -> list[Any]:
        """One batch through the model, each reply read in its own way."""
        wants_top = is_drill and self.drill_confidence == "logprobs"
        started_s = time.monotonic()
        shown = [(each.picture, each.prompt) for each in batch]
        replies = self._model.say(shown, self.drill_tokens if wants_top else self.max_tokens, wants_top=wants_top)
        tokens_in, tokens_out = (sum(getattr(each, name) for each in replies) for name in ("n_in", "n_out"))
        seconds = time.monotonic() - started_s
        self._used.update(n_asks=len(batch), tokens_in=tokens_in, tokens_out=tokens_out, seconds=seconds)
        return [each.read(reply.said) for each, reply in zip(batch, replies, strict=True)]


def _free() -> None:
    """What a failed batch or a model has left: first Python's, then the device's."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()
