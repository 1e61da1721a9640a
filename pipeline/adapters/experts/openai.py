"""The expert behind any OpenAI-compatible vision endpoint: vLLM, SGLang, llama.cpp, a vendor.

Scan: the whole image and a grounding prompt; the boxes of the JSON reply. Drill: the crop of the look and "is any
abnormality in this region?"; P(yes) / (P(yes) + P(no)). Every image asked about leaves this machine for `url`: whether
a data set's licence allows that is for its user to know. The key is never a setting (`pipeline.adapters.addresses`).
What fails for one question is a `Failure`; what would fail for all stops the build.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from pipeline.adapters.addresses import api_key, checked_address
from pipeline.adapters.crew import Once
from pipeline.adapters.endpoint import Endpoint, Limits
from pipeline.adapters.experts import chat
from pipeline.adapters.experts.coordinate_check import MARK, check_coordinates, drawing
from pipeline.adapters.experts.grounding import Frame
from pipeline.adapters.experts.readings import Reading, drill_answer, scan_answer
from pipeline.adapters.experts.settings import check_types
from pipeline.adapters.experts.token_odds import Said
from pipeline.adapters.experts.views import data_url, drill_view, scan_view
from pipeline.adapters.experts.wording import FAMILIES, Wording
from schemas.boxes import Size, grow
from schemas.errors import ExpertError
from schemas.experts import Ask, Drill, ExpertIdentity, Failure, Scan, Seen

REVISION = 1
SILENT = frozenset(("url", "price_in", "price_out", "max_tokens_field", *(each.name for each in fields(Limits))))


@dataclass(frozen=True)
class OpenAIExpert:
    """Settings; those in `SILENT` change no answer and enter no identity. Threads may share it, and its `concurrency`.

    `coordinates`: absolute (pixels of the picture it is shown: Qwen2.5-VL), thousand (0 to 1000: Qwen3-VL, InternVL)
    or unit (0 to 1). `revision`: the user's word for which weights `model` is. `served_as`: the name that replies bear,
    where it is another. `check`: a drawn picture is located first. `prompts`: a file of one's own.
    """

    is_costly: ClassVar[bool] = True
    shards_at_once: ClassVar[int] = 4  # one alone would ask nothing while it waits for the last answers of a round

    url: str = ""
    model: str = ""
    coordinates: str = ""
    revision: str = ""
    served_as: str = ""
    prompts: str = ""
    check: bool = True
    view_px: int = 1008  # longest side of a scan's picture
    crop_px: int = 448  # … of a drill's
    multiple_px: int = 28
    scan_confidence: str = "stated"
    drill_confidence: str = "logprobs"
    prior: float | None = None
    boxes_max: int = 8
    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int = 1024
    top_logprobs: int | None = 20
    thinking: bool | None = None
    max_tokens_field: str = "max_tokens"
    concurrency: int = 16
    connect_s: float = 10.0
    read_s: float = 120.0
    whole_s: float = 300.0
    tries: int = 5
    wait_s: float = 1.0
    wait_max_s: float = 60.0
    breaker_at: int = 16
    price_in: float | None = None  # per million tokens, in any currency
    price_out: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        checked_address(self.url)
        if not self.model.strip():
            raise ValueError("model is missing: the name under which the endpoint serves it")
        if self.coordinates not in FAMILIES:
            raise ValueError(f"coordinates must be one of {FAMILIES}: it is never guessed; got {self.coordinates!r}")
        for name, least in (("multiple_px", 1), ("view_px", 28), ("crop_px", 28), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)!r}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be from 0 to 2, or null to leave it out, got {self.temperature!r}")
        if self.drill_confidence == "logprobs" and not self.top_logprobs:
            raise ValueError("drill_confidence=logprobs needs top_logprobs; set drill_confidence=stated for none")
        _ = self._reading, self._limits
        object.__setattr__(self, "_shared", Once(self._endpoint_of_all))
        object.__setattr__(self, "_checked", Once(self._check))

    @cached_property
    def identity(self) -> ExpertIdentity:
        """The address is not in it: the same model elsewhere is the same expert."""
        settings = {name: value for name, value in asdict(self).items() if name not in SILENT}
        settings |= {"prompts": self._wording.sha256, "served_as": self.served_as or self.model}
        return ExpertIdentity("openai", str(REVISION), tuple(sorted(settings.items())))

    def answer(self, asks: Sequence[Ask]) -> list[Seen | Failure]:
        self._checked()
        images = {ask.image_id: ask.image for ask in asks}
        for image in images.values():
            image.load()  # here, since threads may not do it together
        n_scans = Counter(ask.image_id for ask in asks if isinstance(ask.query, Scan))
        shown = {each: Once(partial(self._scan_picture, images[each]), n) for each, n in n_scans.items()}
        # those of one image together, so that few pictures are kept ready
        order = sorted(range(len(asks)), key=lambda index: asks[index].image_id)
        told = self._endpoint.each(lambda index: self._answer(asks[index], shown), order)
        if self._endpoint.is_in_doubt:
            self._prove_alive()
        answers = dict(zip(order, told, strict=True))
        return [answers[index] for index in range(len(asks))]

    def take_usage(self) -> dict[str, Any]:
        """Requests, tokens and cost of the calling thread since it last asked; cost is None without prices."""
        used = asdict(self._endpoint.take_usage())
        if self.price_in is None or self.price_out is None:
            return used | {"cost": None}
        return used | {"cost": (used["tokens_in"] * self.price_in + used["tokens_out"] * self.price_out) / 1e6}

    def close(self) -> None:
        self._endpoint.close()

    @cached_property
    def _wording(self) -> Wording:
        return Wording.read(Path(self.prompts)) if self.prompts else Wording.named("openai")

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self.scan_confidence, self.drill_confidence, self.prior, self.boxes_max)

    @cached_property
    def _limits(self) -> Limits:
        return Limits(**{each.name: getattr(self, each.name) for each in fields(Limits)})

    @cached_property
    def _sampling(self) -> chat.Sampling:
        return chat.Sampling(**{each.name: getattr(self, each.name) for each in fields(chat.Sampling)})

    @property
    def _endpoint(self) -> Endpoint:
        shared: Once[Endpoint] = self._shared  # type: ignore[attr-defined]
        return shared()

    def _endpoint_of_all(self) -> Endpoint:
        return Endpoint(self.url, api_key(self.url, os.environ), self._limits)

    def _check(self) -> None:
        """ExpertError unless the model counts as declared and says yes or no with the log-probabilities it needs."""
        if not self.check:
            return
        said, shown = self._located()
        if isinstance(said, Failure):
            raise _refused("a drawn rectangle", said)
        check_coordinates(said.text, self.coordinates, shown)
        drill = Drill(MARK, "bright rectangle", grow(MARK, 0.5), 1)
        seen = self._drill("Is there a bright rectangle?", drawing(), drill)
        if isinstance(seen, Failure):
            raise _refused("a crop", seen)

    def _prove_alive(self) -> None:
        """ExpertError where a plain question fails too: the last failures say nothing about the questions they met."""
        if isinstance(failure := self._located()[0], Failure):
            why = f"{failure.error_class}: {failure.message} {failure.raw}".rstrip()
            self._endpoint.stop(f"answers no more, not even about a drawing ({why})", "mend it; run again later")

    def _located(self) -> tuple[Said | Failure, Size]:
        """What the model says about the drawn rectangle, and the size it was shown at."""
        view = scan_view(drawing(), self.view_px, self.multiple_px)
        said = self._said(self._wording.check(self.coordinates, view.size), data_url(view), wants_top=False)
        return said, view.size

    def _answer(self, ask: Ask, shown: Mapping[str, Once[tuple[Size, str]]]) -> Seen | Failure:
        if isinstance(ask.query, Drill):
            return self._drill(ask.question.question, ask.image, ask.query)
        size, url = shown[ask.image_id]()
        prompt = self._wording.scan(ask.question.question, self.coordinates, size, self.boxes_max)
        said = self._said(prompt, url, wants_top=False)
        if isinstance(said, Failure):
            return said
        return scan_answer(said, Frame(self.coordinates, size, ask.image.size), self._reading)

    def _drill(self, question: str, image: Image.Image, query: Drill) -> Seen | Failure:
        view = drill_view(image, query.look_xyxy_px, self.crop_px, self.multiple_px)
        prompt = self._wording.drill(question, query.label, stated=self.drill_confidence == "stated")
        said = self._said(prompt, data_url(view), wants_top=True)
        return said if isinstance(said, Failure) else drill_answer(said, query, self._reading)

    def _scan_picture(self, image: Image.Image) -> tuple[Size, str]:
        view = scan_view(image, self.view_px, self.multiple_px)
        return view.size, data_url(view)

    def _said(self, prompt: str, image_url: str, *, wants_top: bool) -> Said | Failure:
        body = chat.request(self._sampling, prompt, image_url, wants_top=wants_top)
        reply = self._endpoint.post(chat.PATH, body)
        if isinstance(reply, Failure):
            return chat.explained(reply)
        self._endpoint.spent(*chat.tokens_used(reply))
        if other := chat.another_model(reply, self.served_as or self.model):
            fix = "set model to the one that is wanted, or served_as to the name it answers under (* for any)"
            self._endpoint.stop(f"is another model: {self.model} was asked, {other[:100]} has answered", fix)
        return chat.said(reply)


def _refused(what: str, failure: Failure) -> ExpertError:
    why = f"{failure.error_class}: {failure.message}"
    fixes = {"no_logprobs": "the server has to send them, or set drill_confidence=stated"}
    fix = fixes.get(failure.error_class, "mend that; check=false asks the model all the same")
    return ExpertError(f"the expert cannot be asked about {what}: {why}", where=failure.raw[:300] or None, fix=fix)
