from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from renoise.data.resizing import Fit, batches_of_one_size, bucket, buckets, crop_box, resize_into, time_ids

sides = st.integers(1, 3000)
each_fit = pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])


@given(sides, sides, st.integers(1, 1024), st.integers(1, 1024))
def test_a_crop_is_the_largest_centered_part_of_the_target_shape(height: int, width: int, tall: int, wide: int) -> None:
    left, top, right, bottom = crop_box(height, width, (tall, wide), "crop")
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == width or bottom - top == height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    # As close to the target shape as whole pixels allow.
    part_width, part_height = right - left, bottom - top
    assert (
        abs(part_width - part_height * wide / tall) <= 0.5 + 1e-6
        or abs(part_height - part_width * tall / wide) <= 0.5 + 1e-6
        or 1 in (part_width, part_height)
    )


def test_stretch_and_pad_show_the_whole_image() -> None:
    for fit in ("stretch", "pad"):
        assert crop_box(30, 70, (8, 8), fit) == (0, 0, 70, 30)


@each_fit
def test_every_fit_gives_the_target_size(fit: Fit) -> None:
    image = Image.new("RGB", (30, 70))
    assert resize_into(image.crop(crop_box(70, 30, (16, 24), fit)), (16, 24), fit).size == (24, 16)


def test_stretch_changes_the_shape_and_pad_adds_white_margins() -> None:
    image = Image.new("RGB", (40, 20), "red")
    stretched, padded = (np.asarray(resize_into(image, (16, 16), fit)) for fit in ("stretch", "pad"))
    assert (stretched == (255, 0, 0)).all()
    assert (padded[4:12] == (255, 0, 0)).all()
    assert (padded[:4] == 255).all()
    assert (padded[12:] == 255).all()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (600, 600, (600, 600, 0, 0, 512, 512)),
        # 2048 wide at a height of 512, of which 768 are cut off on each side
        (768, 3072, (768, 3072, 0, 768, 512, 512)),
        (3072, 768, (3072, 768, 768, 0, 512, 512)),
        # enlarged to 512 × 1024
        (50, 100, (50, 100, 0, 256, 512, 512)),
        # 513.7 and 515.4 wide, rounded down to 513 and 515; an odd pixel is cut off on the right
        (300, 301, (300, 301, 0, 0, 512, 512)),
        (300, 302, (300, 302, 0, 1, 512, 512)),
    ],
)
def test_time_ids_are_original_size_crop_corner_and_target_size(
    height: int, width: int, expected: tuple[int, ...]
) -> None:
    assert time_ids(height, width, (512, 512)) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([8, 64, 512, 1024]))
def test_the_crop_corner_is_within_a_pixel_of_the_exact_one(height: int, width: int, resolution: int) -> None:
    scale = resolution / min(height, width)
    _, _, top, left, *_ = time_ids(height, width, (resolution, resolution))
    for corner, side in ((top, height), (left, width)):
        assert -1e-6 <= (side * scale - resolution) / 2 - corner < 1


@pytest.mark.parametrize(("size", "corner"), [((384, 640), (128, 0)), ((512, 512), (0, 0)), ((640, 320), (0, 160))])
def test_time_ids_of_a_bucket_have_its_size_and_its_crop_corner(size: tuple[int, int], corner: tuple[int, int]) -> None:
    assert time_ids(1000, 1000, size) == (1000, 1000, *corner, *size)


def test_the_crop_corner_is_zero_where_nothing_is_cropped() -> None:
    for fit in ("stretch", "pad"):
        assert time_ids(300, 700, (512, 512), fit) == (300, 700, 0, 0, 512, 512)


@pytest.mark.parametrize(
    ("resolution", "multiple", "step"), [(1024, 8, 64), (512, 8, 32), (64, 4, 4), (32, 4, 4), (520, 8, 32)]
)
def test_buckets_have_about_as_many_pixels_as_the_square_and_valid_sides(
    resolution: int, multiple: int, step: int
) -> None:
    sizes = buckets(resolution, multiple)
    assert len(sizes) == len(set(sizes))
    assert sizes[0] == (resolution, resolution)
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        assert height * width <= resolution**2
        assert height * width >= resolution**2 - max(height, width) * step
        assert (width, height) in sizes
        assert max(height, width) <= 2 * resolution


def test_the_buckets_of_sdxl_are_included() -> None:
    assert {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640), (640, 1536)} <= set(buckets(1024, 8))


@given(sides, sides)
def test_bucket_returns_the_bucket_nearest_in_shape(height: int, width: int) -> None:
    found = bucket(height, width, 512, 8)
    assert found in buckets(512, 8)
    distances = [abs(math.log(tall / wide) - math.log(height / width)) for tall, wide in buckets(512, 8)]
    assert abs(math.log(found[0] / found[1]) - math.log(height / width)) == pytest.approx(min(distances))


@given(st.lists(st.sampled_from([(64, 64), (44, 88), (88, 44)])), st.integers(1, 4))
def test_batches_have_one_size_and_contain_every_image_once(sizes: list[tuple[int, int]], batch_size: int) -> None:
    batches = batches_of_one_size(sizes, batch_size)
    assert sorted(position for batch in batches for position in batch) == list(range(len(sizes)))
    assert all(len({sizes[position] for position in batch}) == 1 and len(batch) <= batch_size for batch in batches)
    assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)
