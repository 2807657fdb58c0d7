"""Every public layout in miniature, and what is said where one is missing or broken."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from immunization.data.download import Place
from immunization.networks import image_store
from immunization.networks.datasets import _images
from immunization.networks.datasets._images import Images, Listing, decode, limited, stratified
from immunization.networks.image_store import ImageSet, write_images
from immunization.runtime.errors import UserError
from immunization.study.components import components, import_component

from .conftest import complete, pictures, write_folder


def loaded(name, mirror, size=28, /, **changes):
    place = Place(mirror, mirror / "cache")
    return import_component("networks/datasets", name).load(
        complete("datasets", name, **changes), place, size
    )


@pytest.fixture
def imagenet(tmp_path):
    write_folder(tmp_path / "imagenet" / "train", 3, 6, 0)
    write_folder(tmp_path / "imagenet" / "val", 3, 2, 1)
    return tmp_path


@pytest.fixture
def cars(tmp_path):
    """Stanford Cars' public layout, with annotations as MATLAB files."""
    base = tmp_path / "stanford_cars"
    fields = [("bbox_x1", "i4"), ("bbox_y1", "i4"), ("bbox_x2", "i4"), ("bbox_y2", "i4"),
              ("class", "i4"), ("fname", "U16")]  # fmt: skip
    (base / "devkit").mkdir(parents=True)
    names = np.array(["Acura", "BMW", "Volvo"], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, count, target in (
        ("cars_train", 12, base / "devkit" / "cars_train_annos.mat"),
        ("cars_test", 6, base / "cars_test_annos_withlabels.mat"),
    ):
        (base / part).mkdir()
        rows = np.zeros(count, dtype=fields)
        for i in range(count):
            pixels = np.zeros((60, 80, 3), np.uint8)
            pixels[10:40, 20:70] = 50 + 60 * (i % 3)  # the car, inside its box
            Image.fromarray(pixels).save(base / part / f"{i:05d}.png")
            rows[i] = (21, 11, 70, 40, i % 3 + 1, f"{i:05d}.png")
        savemat(target, {"annotations": rows})
    return tmp_path


def test_imagenet_is_decoded_at_eight_sevenths_of_the_input(imagenet):
    found = loaded("imagenet", imagenet)
    assert isinstance(found, Images)
    assert found.train.shape == (18, 3, 32, 32)
    assert found.classes == ["n0000", "n0001", "n0002"]
    assert found.test_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_large_set_is_decoded_by_workers_in_the_order_asked_for(imagenet, tmp_path, monkeypatch):
    whole = loaded("imagenet", imagenet)
    monkeypatch.setattr(_images, "MEMORY_LIMIT", 0)
    found = loaded("imagenet", imagenet)
    assert isinstance(found, Listing)
    path = tmp_path / "i.safetensors"
    write_images(path, found, name="imagenet", size=28, flip=True, record={})
    images = ImageSet(path)
    assert isinstance(images.train, image_store.OnDisk)
    rows = [torch.tensor([4, 0]), torch.tensor([17])]
    batches = list(images.train.batches(rows))
    assert torch.equal(torch.cat(batches), whole.train[torch.cat(rows)])


def test_cars_have_their_official_split_or_stratified_crops(cars):
    photographs = loaded("stanford_cars", cars)
    assert len(photographs.train) == 12
    assert photographs.classes == ["Acura", "BMW", "Volvo"]
    assert photographs.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
    crops = loaded("stanford_cars", cars, form="crops", test_fraction=0.25)
    assert torch.bincount(crops.test_labels).tolist() == [1, 1, 1]
    # Only the car is left of a crop.
    for pixels, label in zip(crops.train, crops.train_labels, strict=True):
        assert (pixels.float() - (50 + 60 * int(label))).abs().max() <= 1


def test_country211_has_its_own_test_part(tmp_path):
    for part in ("train", "test"):
        write_folder(tmp_path / "country211" / part, 4, 3, 0)
    found = loaded("country211", tmp_path)
    assert len(found.train) == 12
    assert len(found.classes) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagenet", ["imagenet/train", "image-net.org", "data: {mirror"]),
        ("country211", ["country211.tgz", "country211/train/XX"]),
        ("stanford_cars", ["download at ai.stanford.edu is gone", "cars_train_annos.mat"]),
    ],
)
def test_missing_data_are_told_with_what_to_fetch_and_where_to_put_it(tmp_path, name, words):
    with pytest.raises(UserError) as error:
        loaded(name, tmp_path)
    for word in words:
        assert word in str(error.value)


def test_an_archive_and_a_folder_of_ones_own_give_the_same_images(tmp_path):
    write_folder(tmp_path / "own", 3, 8, 0, side=32)
    with tarfile.open(tmp_path / "own.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "own", "own")
    one = loaded("image_folder", tmp_path, path=str(tmp_path / "own.tar.xz"))
    two = loaded("image_folder", tmp_path, 28, path=str(tmp_path / "own"))
    assert one.train_labels.tolist() == two.train_labels.tolist()
    assert torch.bincount(one.test_labels).tolist() == [2, 2, 2]
    assert torch.equal(one.train, two.train)
    assert one.train.shape[-1] == 32  # room for crops of 28
    whole = (tmp_path / "own.tar.xz").read_bytes()
    (tmp_path / "cut.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole archive"):
        loaded("image_folder", tmp_path, path=str(tmp_path / "cut.tar.xz"))


def test_broken_images_empty_classes_and_other_classes_are_refused(tmp_path, imagenet):
    bad = imagenet / "imagenet" / "train" / "n0001" / "000.JPEG"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(UserError, match=r"n0001/000.JPEG: not a readable image"):
        loaded("imagenet", imagenet)
    (imagenet / "imagenet" / "val" / "n0009").mkdir()
    with pytest.raises(UserError, match=r"n0009: no images|classes differ"):
        loaded("imagenet", imagenet)
    with pytest.raises(UserError, match="neither a folder nor an archive"):
        loaded("image_folder", tmp_path, path="nowhere")
    empty = pictures(3, 4, 0)
    empty.train_labels[:] = 0
    with pytest.raises(UserError, match="no image of class class1"):
        write_images(tmp_path / "x", empty, name="x", size=32, flip=True, record={})


def test_a_hold_out_is_a_share_of_every_class_and_drawn_by_its_seed():
    labels = np.repeat(np.arange(5), [4, 8, 12, 40, 2])
    held = stratified(labels, 0.25, 3)
    assert np.bincount(labels[held]).tolist() == [1, 2, 3, 10, 1]
    assert (held == stratified(labels, 0.25, 3)).all()
    assert (held != stratified(labels, 0.25, 4)).any()
    assert limited([0, 1, 0, 0, 1, 1], 2).tolist() == [0, 1, 2, 4]


def test_a_picture_is_cut_to_its_middle_or_squashed_from_its_box():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    assert (decode(buffer.getvalue(), 20) == 200).all()
    assert (decode(buffer.getvalue(), 8, (10, 0, 30, 20)) == 200).all()


def test_cifar10_as_a_mirror_packs_it_has_the_records_of_the_archive(monkeypatch):
    """Compress made-up records the way a mirror holds them, and back."""
    import lzma

    from immunization.networks.datasets import cifar10

    rows = 3
    monkeypatch.setattr(cifar10, "ROWS", rows)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (rows, 3, 32, 32))
    labels = generator.integers(0, 10, rows)
    red, green, blue = (images[:, c] for c in range(3))
    coded = []
    for plane in (green, red - green, blue - green):
        padded = np.pad(plane, ((0, 0), (1, 0), (1, 0)))
        west, north, corner = padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]
        low, high = np.minimum(west, north), np.maximum(west, north)
        guess = np.where(corner >= high, low, np.where(corner <= low, high, west + north - corner))
        residual = (plane - guess + 128) % 256 - 128
        coded.append(np.where(residual < 0, -2 * residual - 1, 2 * residual))
    raw = np.stack(coded).astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    found = np.frombuffer(cifar10.unpacked(lzma.compress(raw)), np.uint8).reshape(rows, 3073)
    assert (found[:, 0] == labels).all()
    assert (found[:, 1:].reshape(rows, 3, 32, 32) == images).all()


@pytest.mark.data
def test_the_real_sets_have_their_published_sizes(public_data):
    cifar = loaded("cifar10", public_data, 32, rows_per_class=7, test_rows_per_class=3)
    assert cifar.train.shape == (70, 3, 32, 32)
    mnist = loaded("mnist", public_data, 32, rows_per_class=2)
    assert mnist.train.shape == (20, 3, 32, 32)
    assert (mnist.train[:, :, :2] == 0).all()


@pytest.mark.slow
def test_the_real_cars_have_their_published_number_and_classes(public_data):
    cars = loaded("stanford_cars", public_data, 32, form="crops")
    assert len(cars.train) + len(cars.test) == 8144
    assert len(cars.classes) == 196
    assert cars.classes[13].endswith("Audi_TTS_Coupe_2012")


def test_every_source_says_whether_its_images_may_be_mirrored():
    for name, component in components("networks/datasets").items():
        assert "flip" in component.parameters, name
    assert components("networks/datasets")["mnist"].parameters["flip"]["default"] is False
