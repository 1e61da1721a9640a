"""From words to token ids, turn by turn: the prompt, a written turn, an observation. One function makes each.

No text is ever read for special tokens, and a question for no added token at all: one that spells `<|im_end|>` or
`<tool_call>` stays plain text; of `<image k>` only the place is taken. Sampled ids are kept as they are and never
tokenised again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.errors import CheckpointError
from schemas.grammar import DIALECTS, Dialect
from schemas.protocols.options import lettered
from schemas.records import Question
from trainer.processor import Processor
from trainer.recipe import DialogueConfig
from trainer.sequences import EncodedImage

MARKERS = ("im_start", "im_end", "vision_start", "vision_end", "image_pad")

_PLACEHOLDER = re.compile(r"<image ([1-9][0-9]?)>")


class Ids(NamedTuple):
    """Token ids and the images of their placeholder runs, in order."""

    ids: tuple[int, ...]
    images: tuple[EncodedImage, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    processor: Processor
    config: DialogueConfig

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.config.dialect]

    def marker(self, name: str) -> int:
        found = self.processor.tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        if found is None or found == self.processor.tokenizer.unk_token_id:
            raise CheckpointError(f"tokenizer has no <|{name}|>", fix="use the tokenizer of a Qwen2.5-VL checkpoint")
        return found

    def text(self, text: str) -> tuple[int, ...]:
        """Plain text; nothing in it becomes a special or an added id, which the tokenizer's own parts never make."""
        backend = self.processor.tokenizer.backend_tokenizer
        normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        pieces = backend.pre_tokenizer.pre_tokenize_str(normal)
        return tuple(token.id for piece, _ in pieces for token in backend.model.tokenize(piece))

    def markup(self, text: str) -> tuple[int, ...]:
        """Text of ours, in which `<tool_call>` is the one id that Qwen has for it; special ids are none here either."""
        return tuple(self.processor.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def n_answer_tokens(self, answer: str) -> int:
        """Tokens at the end of a last turn that hold the answer, its closing tag and the stop marker."""
        return len(self.written(f">{answer}</answer>"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of written ids, without the stop marker at their end."""
        stop = self.marker("im_end")
        body = ids[:-1] if ids and ids[-1] == stop else ids
        return self.processor.tokenizer.decode(list(body), clean_up_tokenization_spaces=False)

    def cut(self, text: str, tokens_max: int) -> str:
        """The longest prefix of `text` of at most `tokens_max` tokens that ends with a whole word."""
        words = text.split()
        while words and len(self.text(" ".join(words))) > tokens_max:
            words.pop()
        return " ".join(words)

    def prompt(self, question: Question, images: Sequence[EncodedImage]) -> Ids:
        """System turn, user turn with all images in the question, and the opening of the policy's turn."""
        said = self.config.system + several_images(len(images))
        system = (*self._open("system"), *self.markup(said), *self._close())
        pieces = laid_out(question_text(question), len(images))
        asked = [token for piece in pieces for token in self._piece(piece, images)]
        user = (*self._open("user"), *asked, *self._close())
        shown = tuple(images[piece] for piece in pieces if isinstance(piece, int))
        return Ids((*system, *user, *self._open("assistant")), shown)

    def written(self, text: str) -> tuple[int, ...]:
        """One turn as the policy would write it: the text and the stop marker, all of it with loss."""
        return (*self.markup(text), self.marker("im_end"))

    def observation(self, text: str, image: EncodedImage | None) -> Ids:
        """What the environment says between two written turns: `<feedback>…</feedback>`, with a crop or without."""
        shown = () if image is None else tuple(self._image(image))
        before, after = self._feedback_tags()
        said = (*self.markup(before + text), *shown, *self.markup(after))
        ids = (*self.text("\n"), *self._open("user"), *said, *self._close(), *self._open("assistant"))
        return Ids(ids, () if image is None else (image,))

    def _feedback_tags(self) -> tuple[str, str]:
        name = "feedback" if self.config.dialect == "medeyes" else "tool_response"
        return f"<{name}>", f"</{name}>"

    def _piece(self, piece: str | int, images: Sequence[EncodedImage]) -> tuple[int, ...]:
        return self.text(piece) if isinstance(piece, str) else self._image(images[piece])

    def _image(self, image: EncodedImage) -> tuple[int, ...]:
        pad = (self.marker("image_pad"),) * image.n_tokens
        return (self.marker("vision_start"), *pad, self.marker("vision_end"))

    def _open(self, role: str) -> tuple[int, ...]:
        return (self.marker("im_start"), *self.text(f"{role}\n"))

    def _close(self) -> tuple[int, ...]:
        return (self.marker("im_end"), *self.text("\n"))


def several_images(n_images: int) -> str:
    """What the system turn adds where a look has to name its image; nothing for one image."""
    return f' There are {n_images} images; each look names its own: "image": 1 to {n_images}.' if n_images > 1 else ""


def laid_out(text: str, n_images: int) -> list[str | int]:
    """`text` in pieces with the images, as indices, where they are shown: each once.

    `<image k>` shows image k where it stands first and reads "image k" from then on; an image without a placeholder
    comes before the text, in order. A placeholder of an image that is not there stays text.
    Where images would not come in the order of their numbers, each has its number before it.
    """
    named = dict.fromkeys(int(number) - 1 for number in _PLACEHOLDER.findall(text) if int(number) <= n_images)
    first = [image for image in range(n_images) if image not in named]
    is_in_order = [*first, *named] == list(range(n_images))
    pieces: list[str | int] = [""]

    def show(image: int) -> None:
        pieces[-1] += "" if is_in_order else f"Image {image + 1}: "
        pieces.extend((image, ""))

    for image in first:
        show(image)
    for at, piece in enumerate(_PLACEHOLDER.split(text)):
        if at % 2 == 0:
            pieces[-1] += piece
        elif (image := int(piece) - 1) not in pieces and image in named:
            show(image)
        else:
            pieces[-1] += f"image {piece}" if image in named else f"<image {piece}>"
    return [piece for piece in pieces if piece != ""]


def question_text(question: Question) -> str:
    """The question, followed by lettered options where it has some."""
    return "\n".join([question.question, *(f"{letter}. {text}" for letter, text in lettered(question).items())])
