"""Folders of images, one a class, and where public ones lie."""

from __future__ import annotations

from pathlib import Path

from immunization.networks.datasets._tree import folder_tree
from immunization.runtime.errors import UserError


def list_folder(
    root: Path, classes: list[str] | None = None
) -> tuple[list[tuple[str, int]], list[str]]:
    """Every image under a folder with its class, the classes in alphabetical order.

    Args:
        root: holds one folder a class.
        classes: those of another part, which must be the same; found where None.

    Raises:
        UserError: where there are none, a class is empty, or the classes differ.
    """
    names, labels, named_classes = folder_tree(root).labelled(classes)
    paths = [str(root.joinpath(*name)) for name in names]
    return list(zip(paths, labels, strict=True)), named_classes


def public_folder(
    place_mirror: Path | None, cache: Path, name: str, needed: list[str], told: str
) -> Path:
    """A data set's folder in the mirror or the cache, with all that it needs.

    Raises:
        UserError: with what to fetch and where to put it.
    """
    tried = []
    for base in (place_mirror, cache):
        if base is None:
            continue
        folder = base / name
        missing = [part for part in needed if not (folder / part).exists()]
        if not missing:
            return folder
        tried.append(f"  {folder}: {', '.join(missing)} missing")
    raise UserError(
        f"data set '{name}' is not on this machine.\n" + "\n".join(tried) + f"\n{told}\n"
        "Then run again, or name another folder in the config: `data: {mirror: FOLDER}`."
    )
