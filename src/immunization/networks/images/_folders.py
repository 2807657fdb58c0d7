"""Folders of images, one a class, as ImageFolder of torchvision reads them."""

from __future__ import annotations

from pathlib import Path

from immunization.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


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
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise UserError(f"{root}: holds no folders. One folder a class is expected, with images.")
    if classes is not None and found != classes:
        odd = sorted(set(found) ^ set(classes))[:5]
        raise UserError(f"{root}: its classes differ from those of training: {', '.join(odd)}.")
    rows = []
    for number, name in enumerate(found):
        paths = sorted(p for p in (root / name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise UserError(
                f"{root / name}: no images in this class. Allowed are "
                f"{', '.join(sorted(SUFFIXES))}."
            )
        rows += [(str(path), number) for path in paths]
    return rows, found


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
