"""Images in one folder a class, on a disk or in an archive.

Classes and images are those that torchvision's ImageFolder finds: every image anywhere below a
class's folder, by folder and then by name. Hidden files and folders, and what macOS puts into
archives, are left out. So a folder and an archive of it are one data set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from immunization.runtime.errors import UserError

SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff",
}  # fmt: skip
TRAINING = {"train", "training"}
HELD_OUT = {"test", "testing", "val", "valid", "validation"}
Parts = tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """Names below a root, as parts of paths.

    Attributes:
        root: for messages.
        images: of image files.
        folders: of folders, empty ones too.
    """

    root: str
    images: list[Parts]
    folders: list[Parts]

    def below(self, *prefix: str) -> Tree:
        """The entries of a folder."""
        depth = len(prefix)

        def inside(names: list[Parts]) -> list[Parts]:
            return [name[depth:] for name in names if name[:depth] == prefix and len(name) > depth]

        root = "/".join([self.root, *prefix])
        return Tree(root, inside(self.images), inside(self.folders))

    def top(self) -> list[str]:
        """Names of the folders right below the root."""
        return [name[0] for name in self.folders if len(name) == 1]

    def labelled(
        self, classes: list[str] | None = None
    ) -> tuple[list[Parts], list[int], list[str]]:
        """Every image with its class, the classes in alphabetical order.

        Args:
            classes: those of another part, which must be the same; found where None.

        Raises:
            UserError: where there are none, a class is empty, or the classes differ.
        """
        named = sorted({name[0] for name in self.folders})
        if not named:
            raise UserError(
                f"{self.root}: holds no folders. One folder a class is expected, with images."
            )
        if len(named) == 1 and classes is None:
            raise UserError(
                f"{self.root}: holds one folder, {named[0]!r}, and so one class. Two or more are "
                "expected; name the folder that holds them."
            )
        if classes is not None and named != classes:
            odd = sorted(set(named) ^ set(classes))[:5]
            raise UserError(
                f"{self.root}: its classes differ from those of training: {', '.join(odd)}."
            )
        images = sorted((name for name in self.images if len(name) > 1), key=_place)
        for name in named:
            if not any(image[0] == name for image in images):
                raise UserError(
                    f"{self.root}/{name}: no images in this class. Allowed are "
                    f"{', '.join(sorted(SUFFIXES))}."
                )
        number = {name: place for place, name in enumerate(named)}
        images.sort(key=lambda image: number[image[0]])
        return images, [number[image[0]] for image in images], named


def has_parts(names: Iterable[str], root: str) -> bool:
    """Whether folders of these names are a train and a test part, and not classes.

    Raises:
        UserError: where they are parts of other names, or more of them: nothing says which is held
            out.
    """
    names = sorted(names)
    training = [name for name in names if name.lower() in TRAINING]
    held_out = [name for name in names if name.lower() in HELD_OUT]
    if training == ["train"] and held_out == ["test"]:
        return True
    if training and held_out:
        raise UserError(
            f"{root}: the folders {', '.join(training + held_out)} are parts, not classes. Call "
            "the one to train on train/ and the one that is held out test/, and take others out."
        )
    return False


def _place(name: Parts) -> tuple[str, str]:
    return "/".join(name[:-1]), name[-1]


def wanted(parts: Parts, where: str) -> bool:
    """Whether a name counts: not hidden, nor macOS's own.

    Raises:
        UserError: for a name that is not UTF-8.
    """
    try:
        "/".join(parts).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: the name {'/'.join(parts)!a} is not UTF-8. Rename it.") from None
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def is_image(parts: Parts) -> bool:
    """Whether a name ends like an image's."""
    return Path(parts[-1]).suffix.lower() in SUFFIXES


def folder_tree(root: Path) -> Tree:
    """A folder on the disk; links are followed."""
    images: list[Parts] = []
    folders: list[Parts] = []
    for base, below, names in os.walk(root, followlinks=True):
        at = Path(base).relative_to(root).parts
        below[:] = sorted(name for name in below if wanted((*at, name), str(root)))
        for name in below:
            if Path(base).resolve().is_relative_to((Path(base) / name).resolve()):
                raise UserError(
                    f"{root}: {'/'.join((*at, name))} is a link to a folder that it lies in. "
                    "Remove it."
                )
        folders += [(*at, name) for name in below]
        images += [
            (*at, name) for name in names if is_image((name,)) and wanted((*at, name), str(root))
        ]
    return Tree(str(root), images, folders)


def tree_of_names(
    root: str, files: Iterable[Parts], folders: Iterable[Parts]
) -> tuple[Tree, Parts]:
    """An archive's names as a tree, below the folder that holds the classes; and that folder.

    Args:
        root: the archive, for messages.
        files: parts of the names of its files.
        folders: likewise of its folders.
    """
    images = [name for name in files if is_image(name) and wanted(name, root)]
    known = {name for name in folders if name and wanted(name, root)}
    for name in images:
        known |= {name[:depth] for depth in range(1, len(name))}
    tree = Tree(root, images, sorted(known))
    prefix: Parts = ()
    # Packed with the folder around it: go in where a single folder holds several with images, or
    # nothing but one.
    while len({name[0] for name in [*tree.images, *tree.folders]}) == 1 and tree.images:
        classes = {name[1] for name in tree.images if len(name) > 2}
        if len(classes) < 2 and any(len(name) < 3 for name in tree.images):
            break
        top = tree.images[0][0]
        tree, prefix = tree.below(top), (*prefix, top)
    return tree, prefix
