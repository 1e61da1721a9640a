"""The way to MedPLIB with a stand-in for the network: what is put in, and what is made of what comes out.

It shows nothing of MedPLIB itself, whose weights and packages are not here.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.adapters.experts.medplib_model import IMAGE, REGION, Medplib, grid_of, with_regions
from pipeline.adapters.experts.medplib_service import Service

WORDS = ["<unk>", "<s>", "</s>", "<region>", "</region>", "<SEG>", "▁Yes", "No", "▁no", "it", "is"]
PAD = 0
TALL = Image.new("RGB", (60, 120), (200, 100, 50))


class Tokenizer:
    pad_token_id = PAD
    unk_token_id = 0

    def convert_tokens_to_ids(self, word: str) -> int:
        return WORDS.index(word) if word in WORDS else self.unk_token_id

    def batch_decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return [" ".join(WORDS[each] for each in row if each >= 6 or not skip_special_tokens) for row in ids.tolist()]


class Processor:
    def preprocess(self, pixels: torch.Tensor, return_tensors: str) -> dict:
        self.pixels = pixels
        return {"pixel_values": [pixels.float() / 255]}


class Network:
    """Writes two words; draws where it is told to."""

    def __init__(self, decoder: torch.nn.Module, *, draws: bool = True) -> None:
        self.decoder, self.draws, self.given, self.drawn = decoder, draws, {}, []
        self.scores = torch.full((1, len(WORDS)), -9.0)
        self.scores[0, [6, 7, 8]] = torch.tensor([2.0, 1.0, 0.0])

    def evaluate(self, clip, sam, ids, resized, original, **rest):
        self.given = {"clip": clip, "sam": sam, "ids": ids, "resized": resized, "original": original, **rest}
        self.drawn.append(torch.rand(1).item())
        out = torch.cat([ids, torch.tensor([[9, 10]])], dim=1)
        if not self.draws:
            return out, []
        self.decoder(torch.zeros(1))
        logits = torch.full(original[0].shape, -4.0)
        logits[10:30, 5:25] = 2.0
        return out, [logits[None].bfloat16()]

    def generate(self, **given):
        self.given = given
        out = torch.cat([given["input_ids"], torch.tensor([[6]])], dim=1)
        return SimpleNamespace(sequences=out, scores=(self.scores,))


class Decoder(torch.nn.Module):
    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, 1, 4, 4), torch.tensor([[0.75]]).bfloat16()


def medplib(**how: bool) -> Medplib:
    decoder = Decoder()
    ids = {"scan": [1, IMAGE, 9], "drill": [1, IMAGE, 9, 3, 4, 10]}
    return Medplib(Tokenizer(), Network(decoder, **how), Processor(), lambda text: ids[text], decoder, device="cpu")


def test_a_drawing_is_probabilities_of_the_image_and_the_predicted_iou():
    model = medplib()
    drawn = model.draw(TALL, "scan")
    assert (drawn.text, drawn.predicted_iou, drawn.shares.shape) == ("it is", 0.75, (120, 60))
    assert drawn.shares[10:30, 5:25] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-2)
    assert drawn.shares[0, 0] == pytest.approx(1 / (1 + np.exp(4)), abs=1e-2)
    given = model.model.given
    assert (given["clip"].shape, given["sam"].shape) == ((1, 3, 336, 336), (1, 3, 256, 256))
    assert (given["clip"].dtype, given["sam"].dtype) == (torch.bfloat16, torch.bfloat16)
    assert (given["resized"], given["original"][0].shape) == ([[256, 128]], (120, 60))
    assert given["inference_demo"]  # else a mask comes where there is none
    assert given["ids"].tolist() == [[1, IMAGE, 9]]


def test_pictures_are_centred_on_the_padding_each_encoder_was_trained_with():
    model = medplib()
    model.draw(TALL, "scan")
    clip = model.processor.pixels.numpy()  # 168 wide, between 84 columns of padding
    assert clip[:, 0, 83].tolist() == [122, 116, 104]
    assert clip[:, 0, 84].tolist() == [200, 100, 50]
    assert clip[:, 335, 251].tolist() == [200, 100, 50]
    assert clip[:, 0, 252].tolist() == [122, 116, 104]
    sam = model.model.given["sam"][0].float().numpy()
    assert sam[:, 0, 63].tolist() == [0, 0, 0]
    assert sam[0, 0, 64] == pytest.approx((200 - 123.675) / 58.395, abs=0.01)


def test_a_model_that_wrote_no_seg_has_drawn_nothing():
    drawn = medplib(draws=False).draw(TALL, "scan")
    assert (drawn.text, drawn.shares) == ("it is", None)


def test_every_request_is_seeded():
    model = medplib()
    for _ in range(2):
        model.draw(TALL, "scan")
        torch.rand(3)
    assert model.model.drawn[0] == model.model.drawn[1]


def test_yes_and_no_are_shares_of_the_whole_vocabulary_over_spellings():
    model = medplib()
    region = np.zeros((120, 60), bool)
    region[60:, :] = True
    spoken = model.speak(TALL, "drill", region)
    scores = np.array([-9.0] * 6 + [2, 1, 0] + [-9.0] * 2)
    shares = np.exp(scores) / np.exp(scores).sum()
    assert (spoken.text, spoken.p_yes, spoken.p_no) == (
        "▁Yes",
        pytest.approx(shares[6]),
        pytest.approx(shares[[7, 8]].sum()),
    )
    given = model.model.given
    assert given["input_ids"].tolist() == [[1, IMAGE, 9, 3, REGION, 4, 10]]
    assert (given["region_masks"].shape, given["do_sample"]) == ((1, 1, 24, 24), False)
    assert given["region_masks"][0, 0].sum() == 12 * 12  # the lower half of the middle half
    assert model.speak(TALL, "scan", None).text == "▁Yes"
    assert (model.model.given["region_masks"], model.model.given["valid_region_masks_bool"]) == ([], [])


def test_shares_over_spellings_are_never_more_than_one_by_their_rounding():
    def logits(no: float) -> torch.Tensor:
        scores = torch.full((1, len(WORDS)), -30.0)
        scores[0, [7, 8]] = torch.tensor([no, 0.0])  # two spellings of one word
        return scores

    tried = [logits(0.015 * n) for n in range(2000)]
    above = [each for each in tried if float(sum(torch.softmax(each[0], -1)[[7, 8]])) > 1]
    assert above
    for scores in above:
        model = medplib()
        model.model.scores = scores
        assert model.speak(TALL, "drill", np.ones((120, 60), bool)).p_no == 1.0


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([1, 3, 4, 9], [1, 3, REGION, 4, 9]),
        ([3, 9, 4], [3, 9, 4]),  # apart, they mean nothing to it
        ([3, 4, 3, 4], [3, REGION, 4, 3, REGION, 4]),
        ([], []),
    ],
)
def test_regions_go_between_adjacent_tokens(ids, found):
    assert with_regions(ids, 3, 4) == found


@pytest.mark.parametrize(
    ("shape", "block", "cells"),
    [
        ((336, 336), np.s_[0:336, 0:336], np.s_[0:24, 0:24]),
        ((672, 336), np.s_[0:672, 0:336], np.s_[0:24, 6:18]),  # centred
        ((336, 336), np.s_[14:28, 28:56], np.s_[1:2, 2:4]),
        ((336, 336), np.s_[15:20, 15:20], np.s_[1:2, 1:2]),  # missed by every 14th pixel
        ((3000, 3000), np.s_[2999:3000, 2999:3000], np.s_[23:24, 23:24]),
        ((1, 500), np.s_[0:1, 0:1], np.s_[11:12, 0:1]),
    ],
)
def test_the_grid_of_a_region_is_never_empty(shape, block, cells):
    region, expected = np.zeros(shape, bool), np.zeros((24, 24), np.uint8)
    region[block], expected[cells] = True, 1
    assert (grid_of(region) == expected).all()


def test_it_can_be_served():
    service = Service(medplib())
    assert service.settings["precision"] == "bf16"
    assert len(service.revision) == 16
