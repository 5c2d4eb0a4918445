from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from renoise.data import ImageRecord, WebDatasetDataModule, read_image
from renoise.data.files import UnreadableImageError
from renoise.errors import InputError, InputWarning
from renoise.outputs.manifest import Manifest


@pytest.fixture
def files(tmp_path: Path, pictures: Callable[..., Path]) -> list[Path]:
    return [pictures(tmp_path / "files", f"{number}.png") / f"{number}.png" for number in range(5)]


@pytest.fixture
def shards(tmp_path: Path, files: list[Path]) -> Path:
    """Two shards that the webdataset package wrote, three samples in the first and two in the second."""
    root = tmp_path / "shards"
    root.mkdir()
    with webdataset.ShardWriter(f"{root}/%05d.tar", maxcount=3, verbose=0) as writer:
        for number, path in enumerate(files):
            sample = {"__key__": f"{number:04d}", "png": path.read_bytes(), "json": {"number": number}}
            writer.write(sample | ({"txt": f"text {number}\n"} if number < 4 else {}))
    return root


def write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def ready(root: Path, **options: Any) -> WebDatasetDataModule:
    data = WebDatasetDataModule(root, resolution=32, **options)
    data.setup("predict")
    return data


def listed(root: Path) -> tuple[list[ImageRecord], list[str]]:
    """Returns the records of a data set and the warnings about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = ready(root).records
    assert all(issubclass(each.category, InputWarning) for each in caught)
    return records, [str(each.message) for each in caught]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_sample_of_every_shard_is_an_image_with_its_text(
    shards: Path, files: list[Path], num_workers: int
) -> None:
    data = ready(shards, prompt="a photo", num_workers=num_workers, batch_size=9)
    names = ["00000/0000.png", "00000/0001.png", "00000/0002.png", "00001/0003.png", "00001/0004.png"]
    assert [each.file_name for each in data.records] == names
    assert [each.prompt for each in data.records] == ["text 0", "text 1", "text 2", "text 3", "a photo"]
    assert [each.extra for each in data.records] == [{"number": number} for number in range(5)]
    (batch,) = data.predict_dataloader()
    for pixels, sha256, path in zip(batch.images, batch.sha256, files, strict=True):
        content = read_image(path, 32)
        assert torch.equal(pixels, content.pixels)
        assert sha256 == content.sha256


def test_texts_may_be_in_json_members_and_other_members_are_ignored(tmp_path: Path, files: list[Path]) -> None:
    image = files[0].read_bytes()
    members = [("a.cls", b"3"), ("a.PNG", image), ("a.jpg", image)]
    members += [("a.json", json.dumps({"caption": "a cat", "edit_text": "a dog", "x": [1]}).encode())]
    members += [("sub/b.left.png", image), ("c.txt", b"no image"), ("d.json", b"{broken"), ("d.png", image)]
    write(tmp_path / "set/one.tar", members)
    records, messages = listed(tmp_path / "set")
    assert messages == [
        f"{tmp_path}/set/one.tar, d.png: its text is skipped: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        f"{tmp_path}/set: samples of several images, each of which gets a row (1): one/a.PNG, a.jpg",
        f"{tmp_path}/set: texts are left out that belong to no image or to one that has another text (1): one/c.txt",
    ]
    assert [(each.file_name, each.prompt, each.edit_prompt) for each in records] == [
        ("one/a.PNG", "a cat", "a dog"),
        ("one/a.jpg", "a cat", "a dog"),
        ("one/sub/b.left.png", "", None),
        ("one/d.png", "", None),
    ]
    assert records[0].extra == {"caption": "a cat", "x": [1]}


def special_member(name: str, kind: bytes, target: str = "", size: int = 0) -> bytes:
    """Returns the header of a member that is not a plain file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    return member.tobuf(tarfile.GNU_FORMAT)


def test_names_that_lead_out_of_the_archive_and_links_are_failed_rows(
    tmp_path: Path, files: list[Path], predict: Callable[..., Any]
) -> None:
    image, root = files[0].read_bytes(), tmp_path / "set"
    members = ["../../evil.png", "../good.png", "/abs.png", "good.png"]
    write(root / "one.tar", [(name, image) for name in members])
    with tarfile.open(root / "one.tar", "a") as archive:
        for name, kind, target in (
            ("link.png", tarfile.SYMTYPE, f"../files/{files[1].name}"),
            ("hard.png", tarfile.LNKTYPE, "good.png"),
            ("dangling.png", tarfile.LNKTYPE, "later.png"),
            ("device.png", tarfile.CHRTYPE, ""),
            ("folder.png", tarfile.DIRTYPE, ""),
        ):
            archive.addfile(tarfile.TarInfo.frombuf(special_member(name, kind, target), "utf-8", "surrogateescape"))
    before = set(tmp_path.rglob("*"))
    run = predict(root, tmp_path / "out", "--data=WebDatasetDataModule", f"--data.root={root}", "--data.resolution=32")
    assert run.status == 0, run.err
    errors = {row["file_name"]: row["error"] for row in Manifest(tmp_path / "out").read()}
    assert errors == {
        "one/../../evil.png": "its name in the archive leads out of it",
        "one/../good.png": "its name in the archive leads out of it",
        "one//abs.png": "its name in the archive leads out of it",
        "one/good.png": None,
        "one/hard.png": None,
        "one/link.png": f"is a link to ../files/{files[1].name}, which is not followed",
        "one/dangling.png": "is a link to later.png, which is not followed",
        "one/device.png": "is not a file in its archive, but a device, a named pipe or something else",
    }
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)


def test_the_first_of_two_samples_of_one_name_counts(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/one.tar", [("x.png", files[0].read_bytes())])
    write(tmp_path / "set/one/x.tar", [("y.png", files[1].read_bytes())])
    write(tmp_path / "set/one.x.tar", [("y.png", files[1].read_bytes())])
    write(tmp_path / "set/ONE.TAR", [("x.png", files[1].read_bytes())])
    assert len({each.file_name for each in ready(tmp_path / "set").records}) == 4
    write(tmp_path / "set/one.TAR", [("x.png", files[1].read_bytes())])
    with pytest.warns(InputWarning, match=r"is skipped: one/x\.png is already in .*one\.TAR, x\.png"):
        ready(tmp_path / "set")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_complete_images_of_a_truncated_shard_are_used(shards: Path, share: float) -> None:
    path = shards / "00000.tar"
    content = path.read_bytes()
    used = content.rstrip(b"\0")
    path.write_bytes(content[: int(share * len(used))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = list(ready(shards).predict_dataloader())
    names = [record.file_name for batch in batches for record in batch.records]
    assert names[-2:] == ["00001/0003.png", "00001/0004.png"]
    assert names[:-2] == ["00000/0000.png", "00000/0001.png", "00000/0002.png"][: len(names) - 2]
    cut = [error for batch in batches for _, error in batch.failures]
    assert len(names) < 5
    assert cut or any("00000.tar cannot be read to its end" in str(each.message) for each in caught)


def test_compressed_shards_are_left_out_by_their_names(shards: Path) -> None:
    for name in ("x.tar.gz", "y.tgz"):
        (shards / name).write_bytes(b"")
    records, messages = listed(shards)
    assert len(records) == 5
    problem = "compressed shards are left out; decompress them, because images are read by their position in a shard"
    assert messages == [f"{shards}: {problem} (2): x.tar.gz, y.tgz"]


def test_a_folder_without_images_in_shards_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match=r"contains no images in uncompressed \.tar files"):
        ready(tmp_path / "set")
    (tmp_path / "set/x.tar").write_bytes(b"no archive" * 100)
    with (
        pytest.warns(InputWarning, match=r"x\.tar cannot be read to its end"),
        pytest.raises(InputError, match="no images"),
    ):
        ready(tmp_path / "set")


def test_a_warning_says_where_a_shard_is_damaged_and_a_cut_image_is_a_failed_row(shards: Path) -> None:
    path = shards / "00000.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        second = {member.name: member for member in archive.getmembers()}["0001.png"]
    header, first = second.offset, "00000/0000.png"
    for end, appended, names, problem in (
        (second.offset_data + 10, b"", [first, "00000/0001.png"], "it ends in the middle of 0001.png"),
        (header, b"", [first], f"neither a file nor the archive's end at byte {header}"),
        (header + 100, b"", [first], f"neither a file nor the archive's end at byte {header}"),
        (header, b"noise" * 1000, [first], f"neither a file nor the archive's end at byte {header}"),
    ):
        path.write_bytes(whole[:end] + appended)
        records, messages = listed(shards)
        assert [each.file_name for each in records] == [*names, "00001/0003.png", "00001/0004.png"]
        assert messages[0] == f"{path} cannot be read to its end: {problem}"
        if len(names) == 2:
            with pytest.raises(UnreadableImageError, match=r"is cut off: 00000\.tar ends in the middle of it"):
                records[1].source.read()


def changed(header: bytes, position: int, content: bytes) -> bytes:
    """Returns the header of a member with other bytes at a position and with its checksum corrected."""
    header = header[:position] + content + header[position + len(content) :]
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    return header[:148] + b"%06o\0 " % total + header[156:]


def with_size(header: bytes, size: int) -> bytes:
    """Returns the header of a member with another size, in base 256."""
    return changed(header, 124, (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True))


PLAIN = special_member("bad.png", tarfile.REGTYPE)
LONG_LINK = special_member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=6) + b"a.png\0" + bytes(506)
PAX = special_member("x", tarfile.XHDTYPE, size=512)


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        (with_size(PLAIN, -512), "bad.png"),
        (with_size(PLAIN, -(2**62)), "bad.png"),
        (with_size(PLAIN, 2**40), "bad.png"),
        (with_size(PLAIN, 2**62), "bad.png"),
        (with_size(special_member("x", tarfile.GNUTYPE_LONGNAME), -1), None),
        (with_size(special_member("x", tarfile.XHDTYPE), 2**40), None),
        (with_size(special_member("bad.png", b"?"), -512), "bad.png"),
        (changed(special_member("bad.png", tarfile.GNUTYPE_SPARSE), 482, b"\1"), "bad.png"),
        (LONG_LINK * 1000, None),
        (PAX + b"16 size=1e99999\n".ljust(512, b"\0") + PLAIN, "bad.png"),
        (PAX + b"13 size=-512\n".ljust(512, b"\0") + PLAIN, "bad.png"),
        (PAX + b"99999999999999999999 path=a\n".ljust(512, b"\0") + PLAIN, None),
        (PAX + (b"9" * 5000)[:512] + PLAIN, "bad.png"),
    ],
)
def test_the_other_shards_are_used_where_one_has_absurd_headers(
    tmp_path: Path, files: list[Path], damage: bytes, row: str | None
) -> None:
    image = files[0].read_bytes()
    path = write(tmp_path / "set/one.tar", [("a.png", image)])
    end = 512 + -(-len(image) // 512) * 512
    path.write_bytes(path.read_bytes()[:end] + damage + bytes(1024))
    write(tmp_path / "set/two.tar", [("b.png", image)])
    records, messages = listed(tmp_path / "set")
    names = [each.file_name for each in records]
    assert names == ["one/a.png", *([f"one/{row}"] if row else []), "two/b.png"]
    assert [records[0].source.read(), records[-1].source.read()] == [image, image]
    for message in messages:
        assert message.startswith(f"{path} cannot be read to its end: ")
    assert messages or row


def test_an_archive_without_its_end_is_used_with_a_warning(tmp_path: Path, files: list[Path]) -> None:
    path = write(tmp_path / "set/one.tar", [("a.png", files[0].read_bytes())])
    path.write_bytes(path.read_bytes()[: 512 + -(-files[0].stat().st_size // 512) * 512])
    with pytest.warns(InputWarning, match=r"one\.tar cannot be read to its end: neither a file nor the archive's end"):
        (record,) = ready(tmp_path / "set").records
    assert record.source.read() == files[0].read_bytes()


def test_images_of_a_shard_that_is_truncated_or_removed_after_setup_fail_one_by_one(shards: Path) -> None:
    data = ready(shards)
    (shards / "00000.tar").write_bytes((shards / "00000.tar").read_bytes()[:2000])
    (shards / "00001.tar").unlink()
    batches = list(data.predict_dataloader())
    assert {error for batch in batches for _, error in batch.failures} == {
        "is cut off: 00000.tar ends in the middle of it",
        "does not exist",
    }


def test_a_second_member_of_one_name_is_left_out_with_a_warning(tmp_path: Path, files: list[Path]) -> None:
    first, second = files[0].read_bytes(), files[1].read_bytes()
    members = [("a.png", first), ("a.txt", b"one"), ("a.png", second), ("a.txt", b"two")]
    members += [("b.png", first), ("c.png", first), ("b.png", second), ("b.txt", b"late")]
    write(tmp_path / "set/one.tar", members)
    records, messages = listed(tmp_path / "set")
    assert [(each.file_name, each.prompt) for each in records] == [
        ("one/a.png", "one"),
        ("one/b.png", "late"),
        ("one/c.png", ""),
    ]
    assert [each.source.read() for each in records] == [first] * 3
    problem = "members are left out that have the name of one before them (3): a.png, a.txt, b.png"
    assert messages == [f"{tmp_path}/set/one.tar: {problem}"]


def test_text_suffix_selects_the_text_members(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/a.tar", [("a.png", files[0].read_bytes()), ("a.txt", b"no"), ("a.Caption", b"yes")])
    assert ready(tmp_path / "set", text_suffix=".caption").records[0].prompt == "yes"


def test_texts_of_other_names_are_warned_of_where_no_image_has_a_text(tmp_path: Path, files: list[Path]) -> None:
    image = files[0].read_bytes()
    write(
        tmp_path / "set/a.tar", [("a.png", image), ("a.caption", b"a cat"), ("a.json", b'{"prompt": "a cat", "x": 1}')]
    )
    _, messages = listed(tmp_path / "set")
    problem = (
        "no row has a text, and other columns of strings are not prompts: .caption, prompt; data.text_suffix names"
    )
    assert messages == [f"{tmp_path}/set: {problem} another suffix; .json has the keys text and caption"]
    write(tmp_path / "set/b.tar", [("b.png", image), ("b.txt", b"a dog")])
    assert listed(tmp_path / "set")[1] == []


def test_nan_becomes_null_and_unreadable_texts_are_skipped(tmp_path: Path, files: list[Path]) -> None:
    image = files[0].read_bytes()
    members = [("a.png", image), ("a.json", b'{"score": NaN, "inner": [-Infinity, 1], "text": null, "caption": "c"}')]
    members += [("b.png", image), ("b.txt", b"\xff"), ("c.png", image), ("c.json", b"[1]"), ("c.txt", b"three")]
    members += [("d.png", image), ("d.json", b'{"text": 4}'), ("e.png", image), ("e.json", b'{"x": "\\ud800"}')]
    members += [("f.png", image), ("f.txt", bytes(2**20 + 1))]
    write(tmp_path / "set/one.tar", members)
    with pytest.warns(InputWarning) as caught:
        records = {each.file_name: each for each in ready(tmp_path / "set").records}
    assert [str(each.message).split(", ")[1].split(": ")[0] for each in caught] == ["b.png", "c.png", "f.png"]
    assert records["one/a.png"].prompt == "c"
    assert {name: records["one/a.png"].extra[name] for name in ("score", "inner")} == {
        "score": None,
        "inner": [None, 1],
    }
    assert (records["one/b.png"].prompt, records["one/c.png"].prompt) == ("", "three")
    assert (records["one/d.png"].error or "").startswith("text must be a string or null, got 4")
    assert (records["one/e.png"].error or "").startswith("the row is not valid Unicode")


def test_hidden_files_and_the_output_folder_are_left_out(tmp_path: Path, files: list[Path]) -> None:
    image, root = files[0].read_bytes(), tmp_path / "set"
    write(root / "one.tar", [("._a.png", b"metadata that some systems add"), ("a.png", image), ("sub/.png", image)])
    write(root / ".hidden.tar", [("b.png", image)])
    write(root / ".cache/c.tar", [("c.png", image)])
    write(root / "out/shards/d.tar", [("d.png", image)])
    data = WebDatasetDataModule(root)
    trainer: Any = SimpleNamespace(default_root_dir=str(root / "out"), global_rank=0, world_size=1)
    data.trainer = trainer
    data.setup("predict")
    assert [each.file_name for each in data.records] == ["one/a.png"]


def test_names_that_are_not_unicode_are_escaped(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/one.tar", [("caf\udce9.png", files[0].read_bytes())])
    (record,) = ready(tmp_path / "set").records
    assert (record.file_name, record.error) == ("one/caf\\udce9.png", None)


def test_a_named_pipe_is_not_opened(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/a.tar", [("a.png", files[0].read_bytes())])
    os.mkfifo(tmp_path / "set/pipe.tar")
    with pytest.warns(InputWarning, match=r"pipe\.tar cannot be read to its end: is a named pipe"):
        assert len(ready(tmp_path / "set").records) == 1


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_shard_is_recognized_by_its_content(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "set").mkdir()
    tarfile.open(tmp_path / "set/x.tar", mode).close()
    with (
        pytest.warns(InputWarning, match=r"compressed shards are left out; decompress them, .* \(1\): x\.tar"),
        pytest.raises(InputError, match="no images in uncompressed"),
    ):
        ready(tmp_path / "set")


KEYS = st.text("abé /", min_size=1).filter(lambda key: not set(key.split("/")) & {""})
ENDINGS = st.sampled_from([".png", ".JPG", ".left.png", ".txt", ".json", ".cls", ""])


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.tuples(KEYS, ENDINGS), max_size=12, unique_by=lambda pair: "".join(pair).lower()))
def test_samples_are_those_that_the_webdataset_package_finds(
    names: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Members of one key are written as neighbors, because the package finds only those."""
    ordered = ["".join(pair) for pair in sorted(names)]
    path = write(tmp_path_factory.mktemp("set") / "s.tar", [(name, f'"{name}"'.encode()) for name in ordered])
    with path.open("rb") as file:
        found = [dict(each) | {"__url__": "s"} for each in webdataset.tariterators.tar_file_iterator(file)]
    expected = {}
    for sample in webdataset.tariterators.group_by_keys(found):
        images = [name for name in sample if name.endswith(("png", "jpg"))]
        text = sample.get("txt", b"").decode()
        expected.update({sample[name]: text for name in images})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        records = ready(path.parent).records if expected else []
    assert {each.source.read(): each.prompt for each in records} == expected


NAMES = st.from_regex(r"(b/|\./|/|\.\./)?[aé_.](\.[a1 ]{0,2}){0,2}\.(png|JPG|txt|TXT|json|cls)", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(shards=st.lists(st.lists(NAMES, max_size=7), min_size=1, max_size=3))
def test_every_image_of_every_shard_has_a_row_and_every_text_is_used_or_named(
    shards: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    for shard, names in enumerate(shards):
        members = [(name, f'{{"id": "{shard} {name} {number}"}}'.encode()) for number, name in enumerate(names)]
        write(root / f"{shard}.tar", members)
    images, texts = set(), {}
    for shard, names in enumerate(shards):
        first = {posixpath.normpath(name): number for number, name in reversed([*enumerate(names)])}
        for name, number in first.items():
            if not posixpath.basename(name).startswith("."):
                if name.endswith((".png", ".JPG")):
                    images.add(f"{shard}/{name}")
                elif name.lower().endswith((".txt", ".json")):
                    texts[f"{shard}/{name}"] = f"{shard} {names[number]} {number}"
    shown = "renoise.data.records"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{shown}.rank_zero_warn", lambda message, category, **_: warnings.warn(message, category, 2))
        patch.setattr(f"{shown}.MAX_SHOWN_NAMES", 100)
        if not images:
            with pytest.raises(InputError), warnings.catch_warnings(action="ignore"):
                ready(root)
            return
        records, messages = listed(root)
    assert {each.file_name for each in records} == images
    for name, text in texts.items():
        is_failed = name.split("/")[1] in ("", "..")
        is_used = any(text in (each.prompt or "") or text == each.extra.get("id") for each in records)
        assert is_used or is_failed or any(name in message for message in messages), name


@settings(max_examples=30, deadline=None)
@given(
    contents=st.dictionaries(
        st.text("abc/é ", min_size=1).filter(lambda key: key.split("/")[-1].strip()), st.binary(max_size=2000)
    )
)
def test_every_member_is_found_once_with_its_own_bytes(
    contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    write(root / "s.tar", [(f"{number}/{key}.png", content) for number, (key, content) in enumerate(contents.items())])
    if not contents:
        with pytest.raises(InputError):
            ready(root)
        return
    records = ready(root).records
    assert [each.source.read() for each in records] == list(contents.values())
