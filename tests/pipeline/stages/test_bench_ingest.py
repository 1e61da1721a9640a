"""The ingest benchmark: it reads what it made, both ways, and prints what it measured; how fast is nobody's test."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image as Pillow

from pipeline.adapters.sources.vqa_rad import VqaRad
from pipeline.stages.bench_ingest import BenchReport, Config, decode_and_hash, ingest, show
from pipeline.stages.bench_pictures import jpeg, link_folder, write_folder
from schemas.errors import FoveaError
from schemas.reader import Store
from tests.processes import fovea

N_IMAGES = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench") / "whole"
    write_folder(root, N_IMAGES, side_px=40, workers=2)
    return root


def test_the_pictures_are_distinct_and_the_same_every_time(folder: Path):
    files = sorted((folder / "images").iterdir())
    assert [file.read_bytes() for file in files] == [jpeg(index, 40) for index in range(N_IMAGES)]
    hashes = decode_and_hash(files)
    assert len({pixels for _, pixels in hashes}) == N_IMAGES
    image = Pillow.open(io.BytesIO(jpeg(3, 40)))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (40, 40))
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    assert hashes[3] == (hashlib.sha256(jpeg(3, 40)).hexdigest(), pixels)


def test_the_folder_is_one_that_a_source_reads(folder: Path, tmp_path: Path):
    half = tmp_path / "half"
    link_folder(half, folder, 5)
    for root, n_images in ((folder, N_IMAGES), (half, 5)):
        source = VqaRad(root)
        rows = [source.read(shard) for shard in source.plan()]
        assert sum(len(one.images) for one in rows) == n_images
        assert sum(len(one.questions) for one in rows) == n_images
        assert not any(one.rejects for one in rows)


def test_our_side_is_a_real_ingest(folder: Path, tmp_path: Path):
    seconds, peak_mb = ingest(folder, tmp_path / "store", workers=1)
    assert seconds > 0
    assert peak_mb > 20  # of a Python with pyarrow
    manifest = Store(tmp_path / "store").head()
    assert sum(part.rows for _, part in manifest.parts("images")) == N_IMAGES


def test_an_ingest_that_fails_gives_no_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(FoveaError, match="ended with exit code 1"):
        ingest(tmp_path / "nothing", tmp_path / "store", workers=1)
    assert "no VQA-RAD here" in capfd.readouterr().err


def test_the_command_prints_one_object():
    made = fovea("bench", "ingest", "--images", 6, "--side", 32, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    report = json.loads(made.stdout)
    assert report["config"] | {"mean_kb": 0} == {"images": 6, "side_px": 32, "workers": 2, "mean_kb": 0}
    assert report["ratio"] == pytest.approx(report["seconds_plain"] / report["seconds"], rel=0.05)
    assert report["images_per_s"] == pytest.approx(6 / report["seconds"], rel=0.05)
    assert min(report["peak_mb"], report["peak_mb_half"]) > 20


def test_people_read_the_same_as_a_table(capsys: pytest.CaptureFixture[str]):
    report = BenchReport(0.5, 4.0, 220.0, 2.0, 250.0, 500.0, 210.0, Config(1000, 512, 2, 77.5))
    show(report)
    told = capsys.readouterr().err
    assert "1,000 JPEGs of 512 px, 77.5 kB each, 2 processes" in told
    figures = {"4.00", "250.0", "220", "210", "2.00", "500.0", "0.500"}
    assert figures <= set(told.split())


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("bench",), 2, "ingest"),
        (("bench", "nothing"), 2, "No such command 'nothing'"),
        (("bench", "ingest", "--images", "0"), 2, "Invalid value for '--images'"),
        (("bench", "ingest", "--help"), 0, "Example: fovea bench ingest --images 1000"),
        (("bench", "--help"), 0, "Example: fovea bench ingest --images 1000"),
    ],
)
def test_the_group_knows_its_commands(words: tuple[str, ...], code: int, what: str):
    made = fovea(*words)
    assert made.returncode == code
    assert what in made.stdout + made.stderr
