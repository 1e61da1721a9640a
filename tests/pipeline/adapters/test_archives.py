"""Archives from somewhere else: unpacked whole, or refused before anything is written."""

import stat
import zipfile

import pytest

from pipeline.adapters.sources.archives import Limits, unpack
from schemas.errors import InputError


def pack(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def unpacked(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("files", "wrappers", "found"),
    [
        (["imgs/xmlab1/a.jpg", "imgs/xmlab2/b.png"], ("imgs",), ["xmlab1/a.jpg", "xmlab2/b.png"]),
        (["xmlab1/a.jpg"], ("imgs",), ["xmlab1/a.jpg"]),
        (["images/figures/a.jpg", "images/figures/b.jpg"], ("images", "figures"), ["a.jpg", "b.jpg"]),
        (["images/a.jpg", "b.jpg"], ("images",), ["images/a.jpg", "b.jpg"]),
        (["imgs/a.jpg", "__MACOSX/imgs/._a.jpg"], ("imgs",), ["a.jpg"]),
        (["é/1 (2).jpg"], (), ["é/1 (2).jpg"]),
    ],
)
def test_what_is_unpacked_and_which_outer_folders_go(tmp_path, files, wrappers, found):
    archive = pack(tmp_path / "a.zip", [("imgs/", b"")] * (files[0][:5] == "imgs/") + [(name, b"x") for name in files])
    assert unpack(archive, tmp_path / "out", wrappers) == len(found)
    assert sorted(unpacked(tmp_path / "out")) == sorted(found)


def test_bytes_stay_the_bytes(tmp_path):
    data = bytes(range(256)) * 10_000
    archive = pack(tmp_path / "a.zip", [("a/b.bin", data)], zipfile.ZIP_DEFLATED)
    unpack(archive, tmp_path / "out")
    assert unpacked(tmp_path / "out") == {"a/b.bin": data}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("../evil.txt", "leaves its folder"),
        ("a/../../evil.txt", "leaves its folder"),
        ("/evil.txt", "leaves its folder"),
        ("..\\evil.txt", "another system"),
        ("C:/evil.txt", "another system"),
    ],
)
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path, name, what):
    (tmp_path / "in").mkdir()
    archive = pack(tmp_path / "in" / "a.zip", [("good.txt", b"x"), (zipfile.ZipInfo(name), b"evil")])
    with pytest.raises(InputError, match=what):
        unpack(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_links_and_devices_are_refused(tmp_path):
    for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (mode | 0o777) << 16
        archive = pack(tmp_path / "a.zip", [(entry, b"/etc/passwd")])
        with pytest.raises(InputError, match="link or a device"):
            unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(entries=1), "more than any data set"),
        (Limits(bytes=100_000), "more than any data set"),
        (Limits(ratio=10, ratio_from_bytes=1_000), "no archive of pictures"),
    ],
)
def test_bombs_are_refused_by_what_they_promise(tmp_path, limits, what):
    archive = pack(tmp_path / "a.zip", [("a", bytes(200_000)), ("b", b"")], zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=what):
        unpack(archive, tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", limits=Limits()) == 2


def test_two_entries_of_one_path_are_refused_even_if_only_wrappers_make_them_one(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = pack(tmp_path / "a.zip", [("a/x", b"1"), ("a/x", b"2")])
    with pytest.raises(InputError, match="occur twice"):
        unpack(archive, tmp_path / "out")
    archive = pack(tmp_path / "b.zip", [("a", b"1"), ("a/b", b"2")])  # a file and a folder
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "none of it"])
def test_a_broken_archive_leaves_nothing(tmp_path, damage):
    archive = pack(tmp_path / "a.zip", [("a.jpg", b"x" * 5_000), ("b.jpg", b"y" * 5_000)])
    data = bytearray(archive.read_bytes())
    if damage == "flipped":
        data[7_000] ^= 1  # the checksum of the second file
    archive.write_bytes({"cut": data[:6_000], "flipped": data, "none of it": b""}[damage])
    with pytest.raises(InputError, match="cannot be unpacked") as caught:
        unpack(archive, tmp_path / "out")
    assert "fetch the archive again" in str(caught.value.fix)
    assert not list(tmp_path.glob("out*"))


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    (tmp_path / "out.unpacking").mkdir()
    (tmp_path / "out.unpacking" / "half.jpg").write_bytes(b"half")
    unpack(pack(tmp_path / "a.zip", [("a.jpg", b"x")]), tmp_path / "out")
    assert unpacked(tmp_path / "out") == {"a.jpg": b"x"}
