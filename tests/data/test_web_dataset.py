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

from renoise.data import WebDatasetDataModule, read_image
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
    with pytest.warns(InputWarning, match=r"one\.tar, d: its text is skipped"):
        records = ready(tmp_path / "set").records
    assert [(each.file_name, each.prompt, each.edit_prompt) for each in records] == [
        ("one/a.png", "a cat", "a dog"),
        ("one/sub/b.left.png", "", None),
        ("one/d.png", "", None),
    ]
    assert records[0].extra == {"caption": "a cat", "x": [1]}


def test_names_that_lead_out_of_the_archive_links_and_folders_are_not_followed(
    tmp_path: Path, files: list[Path], predict: Callable[..., Any]
) -> None:
    image, root = files[0].read_bytes(), tmp_path / "set"
    write(root / "one.tar", [("../../evil.png", image), ("/abs.png", image), ("good.png", image)])
    with tarfile.open(root / "one.tar", "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(files[1])
        archive.addfile(link)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    before = set(tmp_path.rglob("*"))
    run = predict(root, tmp_path / "out", "--data=WebDatasetDataModule", f"--data.root={root}", "--data.resolution=32")
    assert run.status == 0, run.err
    status = {row["file_name"]: row["status"] for row in Manifest(tmp_path / "out").read()}
    assert status == {"one/evil.png": "failed", "one/abs.png": "failed", "one/good.png": "ok"}
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "out") for path in new)


def test_the_first_of_two_samples_of_one_name_counts(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/one.tar", [("x.png", files[0].read_bytes())])
    write(tmp_path / "set/one/x.tar", [("y.png", files[1].read_bytes())])
    write(tmp_path / "set/one.x.tar", [("y.png", files[1].read_bytes())])
    write(tmp_path / "set/ONE.TAR", [("x.png", files[1].read_bytes())])
    assert len({each.file_name for each in ready(tmp_path / "set").records}) == 4
    write(tmp_path / "set/one.TAR", [("x.png", files[1].read_bytes())])
    with pytest.warns(InputWarning, match=r"is skipped: one/x\.png is already in .*one\.TAR, x"):
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


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_a_compressed_shard_is_an_error_by_its_name(shards: Path, name: str) -> None:
    (shards / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"{name} is compressed; images can be read from plain \.tar files only"):
        ready(shards)


def test_a_folder_without_images_in_shards_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match=r"contains no images in \.tar files"):
        ready(tmp_path / "set")
    (tmp_path / "set/x.tar").write_bytes(b"no archive" * 100)
    with (
        pytest.warns(InputWarning, match=r"x\.tar cannot be read to its end"),
        pytest.raises(InputError, match="no images"),
    ):
        ready(tmp_path / "set")


def damage(path: Path, end: int, appended: bytes = b"") -> str:
    """Cuts an archive off, appends other bytes, and returns the warning about it."""
    path.write_bytes(path.read_bytes()[:end] + appended)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = ready(path.parent).records
    assert [each.file_name for each in records if each.file_name.startswith("00000")] == ["00000/0000.png"]
    (warning,) = caught
    assert issubclass(warning.category, InputWarning)
    return str(warning.message)


def test_a_warning_says_where_a_shard_is_damaged(shards: Path) -> None:
    path = shards / "00000.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        second = {member.name: member for member in archive.getmembers()}["0001.png"]
    header = second.offset
    for end, appended, problem in (
        (second.offset_data + 10, b"", "it ends in the middle of 0001.png"),
        (header, b"", f"neither a file nor the archive's end at byte {header}"),
        (header + 100, b"", f"neither a file nor the archive's end at byte {header}"),
        (header, b"noise" * 1000, f"neither a file nor the archive's end at byte {header}"),
    ):
        path.write_bytes(whole)
        assert damage(path, end, appended) == f"{path} cannot be read to its end: {problem}"


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


def test_a_second_sample_of_one_key_is_skipped_with_a_warning(tmp_path: Path, files: list[Path]) -> None:
    first, second = files[0].read_bytes(), files[1].read_bytes()
    members = [("a.png", first), ("a.txt", b"one"), ("a.png", second), ("a.txt", b"two")]
    members += [("b.png", first), ("c.png", first), ("b.png", second), ("b.txt", b"late")]
    write(tmp_path / "set/one.tar", members)
    with pytest.warns(InputWarning) as caught:
        records = ready(tmp_path / "set").records
    assert [(each.file_name, each.prompt) for each in records] == [
        ("one/a.png", "one"),
        ("one/b.png", ""),
        ("one/c.png", ""),
    ]
    assert [each.source.read() for each in records] == [first] * 3
    assert [str(each.message) for each in caught] == [
        f"{tmp_path}/set/one.tar, {key} is skipped: one/{key}.png is already in {tmp_path}/set/one.tar, {key}"
        for key in "ab"
    ]


def test_text_suffix_selects_the_text_members(tmp_path: Path, files: list[Path]) -> None:
    write(tmp_path / "set/a.tar", [("a.png", files[0].read_bytes()), ("a.txt", b"no"), ("a.Caption", b"yes")])
    assert ready(tmp_path / "set", text_suffix=".caption").records[0].prompt == "yes"


def test_nan_becomes_null_and_unreadable_texts_are_skipped(tmp_path: Path, files: list[Path]) -> None:
    image = files[0].read_bytes()
    members = [("a.png", image), ("a.json", b'{"score": NaN, "inner": [-Infinity, 1], "text": null, "caption": "c"}')]
    members += [("b.png", image), ("b.txt", b"\xff"), ("c.png", image), ("c.json", b"[1]"), ("c.txt", b"three")]
    members += [("d.png", image), ("d.json", b'{"text": 4}'), ("e.png", image), ("e.json", b'{"x": "\\ud800"}')]
    members += [("f.png", image), ("f.txt", bytes(2**20 + 1))]
    write(tmp_path / "set/one.tar", members)
    with pytest.warns(InputWarning) as caught:
        records = {each.file_name: each for each in ready(tmp_path / "set").records}
    assert [str(each.message).split(", ")[1].split(": ")[0] for each in caught] == ["b", "c", "f"]
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
def test_a_compressed_shard_is_an_error_by_its_content(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "set").mkdir()
    tarfile.open(tmp_path / "set/x.tar", mode).close()
    with pytest.raises(InputError, match=r"x\.tar is compressed; .* so decompress it"):
        ready(tmp_path / "set")


KEYS = st.text("ab.é /", min_size=1).filter(lambda key: not set(key.split("/")) & {"", ".", ".."})
ENDINGS = st.sampled_from([".png", ".JPG", ".left.png", ".txt", ".json", ".cls", ""])


@settings(max_examples=60, deadline=None)
@given(members=st.lists(st.tuples(KEYS, ENDINGS, st.binary(max_size=1200)), max_size=12))
def test_samples_are_those_that_the_webdataset_package_finds(
    members: list[tuple[str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = [(key + ending, content) for key, ending, content in members]
    hidden = [name for name, _ in files if not posixpath.basename(name).partition(".")[0]]
    files = list({name.lower(): (name, content) for name, content in files if name not in hidden}.values())
    path = write(tmp_path_factory.mktemp("set") / "s.tar", files)
    with path.open("rb") as file:
        found = [dict(each) | {"__url__": "s"} for each in webdataset.tariterators.tar_file_iterator(file)]
    samples = list(webdataset.tariterators.group_by_keys(found))
    expected = {}
    for sample in samples:
        images = [name for name in sample if f".{name.split('.')[-1]}" in (".png", ".jpg")]
        if images:
            expected.setdefault(f"s/{sample['__key__']}.{images[0]}", sample[images[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        records = ready(path.parent).records if expected else []
    assert {each.file_name: each.source.read() for each in records} == expected
    assert len(records) == len(expected)


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
