"""Images of one's own: folders and archives are one data set, pixels are read as they are meant."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from immunization.data.download import Place
from immunization.networks.datasets import _images, image_folder
from immunization.networks.datasets._images import decode
from immunization.networks.datasets._tree import SUFFIXES, folder_tree
from immunization.runtime.errors import UserError

from .conftest import complete


def plain(root):
    for place, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (20, 20), (60 * i, 9 + 100 * place, 9)).save(root / name / f"{i}.png")


def hidden(root):
    (root / "cat" / ".ipynb_checkpoints").mkdir()
    shutil.copy(root / "cat" / "0.png", root / "cat" / ".ipynb_checkpoints")
    (root / ".git").mkdir()
    shutil.copy(root / "cat" / "0.png", root / ".git")


def nested(root):
    (root / "cat" / "more" / "still").mkdir(parents=True)
    for i in range(10):
        shutil.copy(root / "cat" / "0.png", root / "cat" / "more" / f"{i}.png")
        shutil.copy(root / "cat" / "1.png", root / "cat" / "more" / "still" / f"{i}.png")


def hard_links(root):
    for i in range(4):
        os.link(root / "cat" / f"{i}.png", root / "dog" / f"9{i}.png")


def soft_links(root):
    for i in range(4):
        (root / "dog" / f"9{i}.png").symlink_to(f"../cat/{i}.png")


def parts(root):
    for name in ("cat", "dog"):
        shutil.move(root / name, root / "train" / name)
        (root / "test" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20, 20), (1, 2, 250)).save(root / "test" / name / f"z{i}.png")


def macos(root):
    (root / "cat" / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(90))
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    (root / "__MACOSX" / "cat" / "._1.png").write_bytes(b"no image")


def other_files(root):
    (root / "readme.txt").write_text("about")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    shutil.copy(root / "cat" / "0.png", root / "loose.png")
    shutil.copy(root / "cat" / "0.png", root / "cat" / "UPPER.PNG")


CHANGES = [lambda root: None, hidden, nested, hard_links, soft_links, parts, macos, other_files]
NAMES = ["plain", "hidden", "nested", "hard", "soft", "parts", "macos", "other"]


def loaded(path):
    place = Place(None, path.parent / "cache")
    return image_folder.load(complete("datasets", "image_folder", path=str(path)), place, 14)


def packed(root, kind, around):
    """An archive of the folder, with the folder around it or from within it."""
    path = root.with_name(f"packed.{kind}")
    base = root.parent if around else root
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(base))
        return path
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(root, root.name if around else ".")
    return path


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
@pytest.mark.parametrize(("kind", "around"), [("gz", True), ("xz", False), ("zip", True)])
def test_a_folder_and_an_archive_of_it_are_one_data_set(change, kind, around, tmp_path):
    root = tmp_path / "own"
    plain(root)
    change(root)
    one, two = loaded(root), loaded(packed(root, kind, around))
    assert one.classes == two.classes == ["cat", "dog"]
    for part in ("train", "train_labels", "test", "test_labels"):
        assert torch.equal(getattr(one, part), getattr(two, part)), part


EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision."""


def as_torchvision(root):
    """What torchvision.datasets.ImageFolder documents and does."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = []
    for label, name in enumerate(classes):
        for base, _, names in sorted(os.walk(root / name, followlinks=True)):
            samples += [
                (os.path.join(base, n), label)  # noqa: PTH118
                for n in sorted(names)
                if n.lower().endswith(EXTENSIONS)
            ]
    return classes, samples


@pytest.mark.parametrize("change", [CHANGES[0], nested, hard_links, soft_links, other_files])
def test_classes_and_images_are_those_of_torchvision(change, tmp_path):
    root = tmp_path / "own"
    plain(root)
    change(root)
    names, labels, classes = folder_tree(root).labelled()
    ours = [(str(root.joinpath(*n)), k) for n, k in zip(names, labels, strict=True)]
    assert (classes, ours) == as_torchvision(root)
    assert set(EXTENSIONS) == SUFFIXES


def test_a_split_of_an_archive_is_kept(tmp_path):
    plain(tmp_path / "own")
    parts(tmp_path / "own")
    found = loaded(packed(tmp_path / "own", "gz", True))
    assert Counter(found.train_labels.tolist()) == {0: 4, 1: 4}
    assert Counter(found.test_labels.tolist()) == {0: 3, 1: 3}
    assert (found.test[:, 2] == 250).all()


def encoded(array, kind="png", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


RAMP = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (RAMP, "png"),
        (RAMP, "tiff"),
        (RAMP.astype(np.int32), "tiff"),
        ((RAMP.astype(np.int64) * 32767).astype(np.int32), "tiff"),
        ((RAMP / 65535).astype(np.float32), "tiff"),
    ],
)
def test_deep_pixels_are_scaled_and_not_clipped(array, kind):
    expected = decode(encoded((RAMP / 257).round().astype(np.uint8)), 8).astype(int)
    assert np.abs(decode(encoded(array, kind), 8).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 4), 200, np.float32),
        np.full((4, 4), -0.5, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), -7, np.int32),
        np.full((4, 4), 131070, np.int32),  # of 16 bits, black in 32
    ],
)
def test_pixels_of_no_known_range_are_refused(array):
    with pytest.raises(UserError, match=r"pixels from"):
        decode(encoded(array, "tiff"), 8, name="x.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    upright.save(buffer, "png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    expected.getexif().clear()
    plain_bytes = io.BytesIO()
    Image.fromarray(np.asarray(expected)).save(plain_bytes, "png")
    assert (decode(buffer.getvalue(), 8) == decode(plain_bytes.getvalue(), 8)).all()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", encoded(np.zeros((40, 40), np.uint8))[:45],
     encoded(np.zeros((40, 40), np.uint8)).replace(b"IDAT", b"IDAX")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["gz", "zip", "folder"])
def test_an_unreadable_image_ends_in_one_message_with_its_name(content, kind, tmp_path):
    plain(tmp_path / "own")
    (tmp_path / "own" / "dog" / "2.png").write_bytes(content)
    path = tmp_path / "own" if kind == "folder" else packed(tmp_path / "own", kind, True)
    with pytest.raises(UserError, match=r"own/dog/2\.png: not a readable image"):
        loaded(path)


def test_a_decompression_bomb_is_refused_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(_images, "MOST_PIXELS", 50 * 50)
    with pytest.raises(UserError, match=r"bomb\.png: .*60 × 60 pixels"):
        decode(encoded(np.zeros((60, 60), np.uint8)), 8, name="bomb.png")


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    plain(tmp_path / "own")
    bad = os.fsencode(tmp_path / "own" / "cat") + b"/\xff\xfe.png"
    shutil.copy(tmp_path / "own" / "cat" / "0.png", bad)
    with pytest.raises(UserError, match="not UTF-8"):
        loaded(tmp_path / "own")
    with pytest.raises(UserError, match="not UTF-8"):
        loaded(packed(tmp_path / "own", "gz", True))


def test_a_pipe_that_is_named_like_an_image_is_refused_and_not_waited_for(tmp_path):
    plain(tmp_path / "own")
    os.mkfifo(tmp_path / "own" / "cat" / "9.png")
    with pytest.raises(UserError, match=r"cat/9\.png: not a readable image \(a pipe"):
        loaded(tmp_path / "own")


def test_a_member_of_negative_size_ends_in_one_message(tmp_path):
    """From which tarfile goes back to the member before, for ever."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("cat/0.png", "dog/0.png"):
            member = tarfile.TarInfo(name)
            member.size = -1024 if "dog" in name else 0
            archive.addfile(member)
    with pytest.raises(UserError, match="not a whole archive"):
        loaded(path)


def test_a_link_that_leads_out_of_an_archive_is_refused(tmp_path):
    plain(tmp_path / "own")
    (tmp_path / "secret.png").write_bytes(encoded(np.zeros((9, 9), np.uint8)))
    (tmp_path / "own" / "cat" / "9.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UserError, match=r"cat/9\.png: a link that leads out"):
        loaded(packed(tmp_path / "own", "gz", True))


def test_an_encrypted_or_cut_zip_is_refused(tmp_path):
    plain(tmp_path / "own")
    path = packed(tmp_path / "own", "zip", True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole archive"):
        loaded(path)


def tar_of(root, path):
    with tarfile.open(path, "w") as archive:
        archive.add(root, arcname=".")
    return path


@pytest.mark.parametrize("damage", ["flipped", "zeros", "in a header", "between members", "gz"])
def test_a_damaged_tar_is_refused_and_not_read_as_far_as_it_goes(damage, tmp_path):
    """`tarfile` ends quietly at a damaged header."""
    plain(tmp_path / "own")
    path = tar_of(tmp_path / "own", tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        member = archive.getmembers()[7]
    whole = bytearray(path.read_bytes())
    at = member.offset
    if damage == "flipped":
        whole[at + 3] ^= 1
    elif damage == "zeros":
        whole[at + 100 : at + 140] = bytes(40)
    else:
        whole = whole[: at + 100 if damage == "in a header" else at]
    path.write_bytes(gzip.compress(whole) if damage == "gz" else whole)
    with pytest.raises(UserError, match="not a whole archive"):
        loaded(path)


def test_a_tar_that_ends_in_a_stored_zip_is_the_tar(tmp_path):
    plain(tmp_path / "own")
    plain(tmp_path / "other")
    (tmp_path / "other" / "cat").rename(tmp_path / "other" / "ant")
    packed(tmp_path / "other", "zip", around=False).rename(tmp_path / "own" / "zz.zip")
    found = loaded(tar_of(tmp_path / "own", tmp_path / "a.tar"))
    assert found.classes == ["cat", "dog"]


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("training", "testing"),
                                   ("train", "val", "test")])  # fmt: skip
def test_parts_of_other_names_are_no_classes(names, tmp_path):
    for name in names:
        plain(tmp_path / "own" / name)
    for path in (tmp_path / "own", tar_of(tmp_path / "own", tmp_path / "a.tar")):
        with pytest.raises(UserError, match="are parts, not classes"):
            loaded(path)


def test_one_class_is_refused_in_a_folder_where_an_archive_would_find_two(tmp_path):
    plain(tmp_path / "own" / "images")
    with pytest.raises(UserError, match="one folder, 'images', and so one class"):
        loaded(tmp_path / "own")
    assert loaded(tar_of(tmp_path / "own", tmp_path / "a.tar")).classes == ["cat", "dog"]
    shutil.copy(tmp_path / "own/images/cat/0.png", tmp_path / "own" / "preview.png")
    for path in (tmp_path / "own", tar_of(tmp_path / "own", tmp_path / "a.tar")):
        with pytest.raises(UserError, match="one class"):
            loaded(path)


def test_links_to_folders_are_refused_in_an_archive_and_loops_on_a_disk(tmp_path):
    plain(tmp_path / "own")
    (tmp_path / "own" / "wolf").symlink_to("dog")
    assert loaded(tmp_path / "own").classes == ["cat", "dog", "wolf"]
    with pytest.raises(UserError, match="wolf is a link to a folder"):
        loaded(tar_of(tmp_path / "own", tmp_path / "a.tar"))
    (tmp_path / "own" / "cat" / "loop").symlink_to(".")
    with pytest.raises(UserError, match="cat/loop is a link to a folder that it lies in"):
        loaded(tmp_path / "own")


def test_repeated_names_mean_the_last_and_none_leads_outside(tmp_path):
    plain(tmp_path / "own")
    path = tar_of(tmp_path / "own", tmp_path / "a.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(tmp_path / "own" / "dog" / "3.png", arcname="cat/0.png")
    found = loaded(path)
    assert len(found.train_labels) + len(found.test_labels) == 8
    everything = torch.cat([torch.as_tensor(found.train), torch.as_tensor(found.test)])
    labels = torch.cat([torch.as_tensor(found.train_labels), torch.as_tensor(found.test_labels)])
    cats = everything[labels == 0]
    assert int(cats[:, 1].flatten(1).float().mean(1).round().max()) == 109  # a dog's green
    with tarfile.open(path, "a") as archive:
        archive.add(tmp_path / "own" / "dog" / "3.png", arcname="../cat/9.png")
    with pytest.raises(UserError, match="leads out of the archive"):
        loaded(path)


def test_a_zip_with_backslashes_is_read(tmp_path):
    plain(tmp_path / "own")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "own").rglob("*.png")):
            info = zipfile.ZipInfo()
            info.filename = f"{file.parent.name}\\{file.name}"
            archive.writestr(info, file.read_bytes())
    assert loaded(tmp_path / "a.zip").classes == ["cat", "dog"]


def test_exif_that_cannot_be_read_is_left_alone_and_white_may_be_zero():
    image = Image.new("RGB", (8, 8), (10, 200, 30))
    stream = io.BytesIO()
    image.save(stream, "png", exif=b"no such thing as EXIF")
    assert decode(stream.getvalue(), 8)[1].mean() > 150
    stream = io.BytesIO()
    Image.fromarray(RAMP).save(stream, "tiff", tiffinfo={262: 0})
    inverted = decode(stream.getvalue(), 8).astype(int)
    assert np.abs(inverted + decode(encoded(RAMP, "tiff"), 8).astype(int) - 255).max() <= 1
