"""Asks of the `medplib` expert about a drawing with two bright rectangles, and settings that do not wait."""

from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.adapters.experts.medplib_contract import REGION
from schemas.experts import Ask, Drill, Scan
from tests.doubles import question
from tests.pipeline.medplib_servers import OddService, StandIn

KEY = "sk-secret-of-the-test"
RIGHT = OddService(StandIn()).revision
QUICK = {"revision": RIGHT, "tries": 2, "wait_s": 0.001, "read_s": 5.0}
MINE = f'scan = "Segment it: $question"\ndrill = "Is {REGION} a $label? $question"'


def picture(size=(400, 200)) -> Image.Image:
    pixels = np.full(size[::-1], 60, np.uint8)
    pixels[20:60, 40:120] = 220  # two bright rectangles, the larger one dimmer
    pixels[100:180, 200:380] = 160
    return Image.fromarray(pixels)


IMAGE = picture()
BRIGHT, DIM = (40.0, 20.0, 120.0, 60.0), (200.0, 100.0, 380.0, 180.0)
LOOK = Drill(BRIGHT, "region", (-60.5, -20.0, 199.5, 99.5), 1)  # shows columns 0 to 200, rows 0 to 100


def scan(number: int = 0, image: Image.Image = IMAGE) -> Ask:
    asked = question(f"q{number}", question=f"What about {number}?")
    return Ask(asked, f"image {image.size}", image, Scan())


def drill(number: int = 0, query: Drill = LOOK, image: Image.Image = IMAGE) -> Ask:
    return replace(scan(number, image), query=query)
