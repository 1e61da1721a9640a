"""Rows through the real `datasets`, streamed from a folder: same bytes, whole parts, cut off and resumed."""

import socket
from itertools import pairwise

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.adapters.sources import hub_parquet, hub_rows
from pipeline.adapters.sources.hub_sets import Rows
from pipeline.adapters.sources.path_vqa import PathVqa
from schemas.errors import InputError
from tests.pictures import jpeg, read_all

SETTING = Rows("somebody/something", ("train", "validation", "test"))
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema([("image", IMAGE), ("question", pa.string()), ("answer", pa.string()), ("extra", pa.int64())])
SIZES = {"train": 300, "validation": 70, "test": 5}


def plain(number):
    image = None if number == 17 else {"bytes": jpeg(number // 3), "path": f"{number}.jpg" if number % 2 else None}
    return {"image": image, "question": f"q{number}?", "answer": "yes", "extra": number}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")  # locks of streams


@pytest.fixture
def repo(tmp_path):
    """Train in two files, as large sets have them, with small row groups."""
    folder = tmp_path / "repo" / "data"
    folder.mkdir(parents=True)
    for split, n_rows in SIZES.items():
        rows = pa.Table.from_pylist([plain(number) for number in range(n_rows)], SCHEMA)
        cuts = (0, 130, n_rows) if split == "train" else (0, n_rows)
        for part, (first, stop) in enumerate(pairwise(cuts)):
            name = f"{split}-{part:05d}-of-{len(cuts) - 1:05d}.parquet"
            pq.write_table(rows.slice(first, stop - first), folder / name, row_group_size=50)
    return str(tmp_path / "repo")


def spool(repo, folder, split="train", setting=SETTING):
    folder.mkdir(parents=True, exist_ok=True)
    return hub_rows.spool(folder, setting, split, repo=repo, revision=None)


def rows_of(folder, split):
    return [row for path in sorted(folder.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def small_parts(monkeypatch):
    monkeypatch.setattr(hub_rows, "BATCH_ROWS", 32)
    monkeypatch.setattr(hub_rows, "PART_BYTES", 40_000)


def test_rows_and_bytes_stay_what_they_are(repo, tmp_path, monkeypatch):
    small_parts(monkeypatch)
    out = tmp_path / "out" / "data"
    assert {split: spool(repo, out, split) for split in SIZES} == SIZES
    for split, n_rows in SIZES.items():
        expected = [{name: plain(number)[name] for name in ("image", "question", "answer")} for number in range(n_rows)]
        assert rows_of(out, split) == expected
    found = hub_parquet.find(out.parent, tuple(SIZES))
    assert found is not None
    assert len(found["train"]) > 1
    assert {path.suffix for path in out.iterdir()} == {".parquet"}


def test_the_ordinary_source_reads_it_as_it_reads_the_hubs_own_files(repo, tmp_path):
    for split in SIZES:
        spool(repo, tmp_path / "out" / "data", split)
    images, questions, rejects = read_all(PathVqa(tmp_path / "out"))
    direct = read_all(PathVqa(repo))
    assert len(questions) + len(rejects) == sum(SIZES.values())
    assert questions == direct[1]
    assert [image.data for image in images] == [image.data for image in direct[0]]


@pytest.mark.parametrize("cut_at", [0, 31, 32, 150, 299])
def test_a_stream_that_breaks_leaves_whole_parts_and_goes_on_after_them(repo, tmp_path, monkeypatch, cut_at):
    small_parts(monkeypatch)
    spool(repo, tmp_path / "whole")
    out = tmp_path / "out"
    real = hub_rows._asked

    def breaking(rows, repo):
        for number, row in enumerate(real(rows, repo)):
            if number == cut_at:
                raise InputError("the line is dead")
            yield row

    monkeypatch.setattr(hub_rows, "_asked", breaking)
    with pytest.raises(InputError, match="the line is dead"):
        spool(repo, out)
    assert not list(out.glob("*-of-*.parquet"))
    kept = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    assert sum(pq.read_metadata(out / name).num_rows for name in kept) <= cut_at
    monkeypatch.setattr(hub_rows, "_asked", real)
    assert spool(repo, out) == SIZES["train"]
    assert rows_of(out, "train") == rows_of(tmp_path / "whole", "train")
    assert all((out / f"{name[:11]}-of-{len(list(out.glob('*.parquet'))):05d}.parquet").read_bytes() == data
               for name, data in kept.items())  # fmt: skip


def test_a_finished_split_is_not_asked_for_again(repo, tmp_path, monkeypatch):
    spool(repo, tmp_path / "out")
    monkeypatch.setattr(hub_rows, "_stream", lambda *_: pytest.fail("was asked again"))
    assert spool(repo, tmp_path / "out") == SIZES["train"]


def test_a_run_killed_while_files_got_their_last_names_is_mended(repo, tmp_path, monkeypatch):
    small_parts(monkeypatch)
    out = tmp_path / "out"
    spool(repo, out)
    names = sorted(path.name for path in out.iterdir())
    (out / names[1]).rename(out / "train-00001.parquet")
    (out / "train-00009.tmp").write_bytes(b"half")
    assert spool(repo, out) == SIZES["train"]
    assert sorted(path.name for path in out.glob("*.parquet")) == names


@pytest.mark.parametrize(
    ("split", "setting", "what"),
    [
        ("dev", SETTING, "Bad split"),
        ("train", Rows("a/b", ("train",), columns=("image", "caption"), images=("image",)), "'caption'"),
        ("train", Rows("a/b", ("train",), columns=("image", "extra"), images=("image",)), "no text"),
    ],
)
def test_a_copy_of_another_form_is_refused(repo, tmp_path, split, setting, what):
    with pytest.raises(InputError, match=what) as caught:
        spool(repo, tmp_path / "out", split, setting)
    assert caught.value.fix
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_paths_without_bytes_are_refused(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    row = {"image": {"bytes": None, "path": "x.jpg"}, "question": "q", "answer": "a"}
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), folder / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match="not their bytes"):
        spool(str(folder), tmp_path / "out")


def test_more_or_fewer_rows_than_the_card_promises_is_an_error(repo, tmp_path, monkeypatch):
    real = hub_rows._asked
    monkeypatch.setattr(hub_rows, "_asked", lambda rows, repo: (r for n, r in enumerate(real(rows, repo)) if n < 60))
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
    card += "dataset_info:\n  splits:\n  - name: train\n    num_examples: 300\n---\n"
    (tmp_path / "repo" / "README.md").write_text(card)
    with pytest.raises(InputError, match="gave 60 rows, expected 300"):
        spool(repo, tmp_path / "out")
