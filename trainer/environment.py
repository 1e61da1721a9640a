"""The world that a written turn meets, the same for experts and policy: it parses, crops, and answers with feedback.

It knows the image and the rules, never the expert and never the gold answer. A box that cannot be looked at, or is
no box, gets a sentence as feedback; any other turn that does not parse ends the episode, without an answer.
"""

from dataclasses import dataclass, field

from PIL import Image

from schemas.boxes import Box, Size
from schemas.errors import InputError
from schemas.frames import WireBox, crop, from_wire, to_wire, wire_problem
from schemas.grammar import Answer, Look, Malformed, is_grammatical, parse
from schemas.records import Question
from trainer.dialogue import Dialogue, Ids
from trainer.processor import Processor
from trainer.recipe import ViewConfig
from trainer.sequences import EncodedImage, TokenRow


@dataclass(frozen=True)
class Scene:
    """One question with its image, as stored and as the policy sees it."""

    question: Question
    image: Image.Image
    encoded: EncodedImage

    @property
    def size(self) -> Size:
        return self.image.size

    @property
    def resized(self) -> Size:
        """Width and height of the frame that wire coordinates count in."""
        _, height, width = self.encoded.grid_thw
        return width * 14, height * 14


@dataclass(frozen=True)
class LookTaken:
    """A look that was executed: what was asked for, on the wire, and what was cut, in stored pixels."""

    wire: WireBox
    box_xyxy_px: Box


@dataclass
class Episode:
    """One conversation in the making; `is_over` tells when nothing more is to be written."""

    scene: Scene
    stream: str
    name: str
    ids: list[int]
    is_written: list[bool]
    images: list[EncodedImage]
    n_prompt: int
    turns: list[str] = field(default_factory=list)
    turn_spans: list[tuple[int, int]] = field(default_factory=list)
    looks: list[LookTaken] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    answer: str | None = None
    is_over: bool = False

    @property
    def row(self) -> TokenRow:
        return TokenRow(tuple(self.ids), tuple(self.is_written), tuple(self.images), self.n_prompt, self.name)

    @property
    def look_boxes(self) -> list[Box]:
        return [look.box_xyxy_px for look in self.looks]

    def write(self, ids: tuple[int, ...], text: str) -> None:
        self.turn_spans.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self.is_written += [True] * len(ids)
        self.turns.append(text)

    def observe(self, seen: Ids) -> None:
        self.ids += seen.ids
        self.is_written += [False] * len(seen.ids)
        self.images += seen.images


@dataclass(frozen=True)
class Environment:
    dialogue: Dialogue
    view: ViewConfig

    @property
    def looks_max(self) -> int:
        return self.dialogue.config.looks_max

    @property
    def processor(self) -> Processor:
        return self.dialogue.processor

    def scene(self, question: Question, image: Image.Image) -> Scene:
        encoded = self.processor.encode_image(image, self.view.image_min_pixels, self.view.image_max_pixels)
        return Scene(question, image, encoded)

    def start(self, scene: Scene, stream: str, name: str) -> Episode:
        prompt = self.dialogue.prompt(scene.question, [scene.encoded])
        n_prompt = len(prompt.ids)
        return Episode(scene, stream, name, list(prompt.ids), [False] * n_prompt, list(prompt.images), n_prompt)

    def take(self, episode: Episode, ids: tuple[int, ...], *, is_whole: bool = True) -> Ids | None:
        """Add a written turn (ids as written, stop marker included) and react: the observation, or None at the end.

        `is_whole` is False for a turn that ran out of tokens before it ended.
        """
        text = self.dialogue.decode(ids)
        episode.write(ids, text)
        turn = parse(text, self.dialogue.dialect) if is_whole else Malformed("length", "The turn did not end.")
        asks_to_look = isinstance(turn, Look) or (isinstance(turn, Malformed) and turn.rule == "box")
        if asks_to_look and len(episode.turns) <= self.looks_max:
            observation = self._look(episode, turn)
            episode.observe(observation)
            return observation
        if isinstance(turn, Answer):
            episode.answer = turn.answer.strip()
        elif isinstance(turn, Malformed):
            episode.problems.append(turn.rule)
        else:
            episode.problems.append("too many looks")
        episode.is_over = True
        return None

    def _look(self, episode: Episode, look: Look | Malformed) -> Ids:
        """The feedback of one look: the crop of exactly the box asked for, or a sentence why there is none."""
        scene, number = episode.scene, f"Look {len(episode.turns)} of {self.looks_max}."
        try:
            wire = self._checked(look, scene)
            box = from_wire(wire, scene.size, scene.resized)
            seen = self.processor.encode_image(
                crop(scene.image, box), self.view.crop_min_pixels, self.view.crop_max_pixels
            )
        except InputError as error:  # also an aspect ratio that no processor takes
            episode.problems.append("box")
            return self.dialogue.observation(f"{number} {error.what}", None)
        episode.looks.append(LookTaken(wire, box))
        return self.dialogue.observation(f"{number} Box {list(wire)}.", seen)

    def _checked(self, look: Look | Malformed, scene: Scene) -> WireBox:
        if isinstance(look, Malformed):
            raise InputError(look.message)
        if problem := wire_problem(look.box, scene.resized, self.view.look_min_side_px):
            raise InputError(problem)
        return look.box

    def wire(self, scene: Scene, box_xyxy_px: Box) -> WireBox:
        """A box of the stored image as this environment's policy has to write it."""
        return to_wire(box_xyxy_px, scene.size, scene.resized)

    def is_grammatical(self, episode: Episode) -> bool:
        return not episode.problems and is_grammatical(episode.turns, self.dialogue.dialect, self.looks_max)
