"""Finds a user's image files, and preprocesses them for a net."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import UInt8

from deeper.data import jpeg
from deeper.data.encoded_images import View, show_into
from deeper.errors import UserError

# Common formats that Pillow reads, including those of torchvision. The list is fixed, so that the
# content of a data set does not depend on how Pillow was built; files that cannot be read are
# reported. The first frame of an animation (.gif, .webp) is used.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga"),
)


LeftOut = dict[str, list[str]]  # reason -> paths of the files that are left out


def pictures_below(
    folder: Path, root: Path, left_out: LeftOut, suffixes: Sequence[str] = SUFFIXES
) -> list[Path]:
    """Return the image files, or others, in a folder and its subfolders, sorted by path.

    Links to files are followed. Links to folders are not, since they may form a cycle.

    Args:
        folder: where to look.
        root: directory that the paths in ``left_out`` are relative to.
        left_out: everything that is left out is added to it, with the reason.
        suffixes: of the files that are meant.
    """
    pictures = []
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        _leave_out(folder, "folders that cannot be opened", root, left_out)
        return []
    for path in entries:
        if is_hidden(path):
            _leave_out(path, "hidden", root, left_out)
        elif path.is_dir():
            if path.is_symlink():
                _leave_out(path, "links to folders", root, left_out)
            else:
                pictures += pictures_below(path, root, left_out, suffixes)
        elif not path.exists():
            _leave_out(path, "broken links", root, left_out)
        elif path.suffix.lower() not in suffixes:
            _leave_out(path, path.suffix.lower() or "without a suffix", root, left_out)
        elif path.is_file():
            pictures.append(path)
        else:
            _leave_out(path, "pipes or devices", root, left_out)
    return sorted(pictures)


def is_hidden(path: PurePath) -> bool:
    """Return whether a file is hidden or belongs to the operating system."""
    return path.name.startswith(".") or path.name in ("__MACOSX", "@eaDir")


def _leave_out(path: Path, why: str, root: Path, left_out: LeftOut) -> None:
    left_out.setdefault(why, []).append(str(path.relative_to(root)))


def describe_left_out(left_out: LeftOut) -> str:
    """Summarise in one line what was left out; empty if nothing was."""
    if not left_out:
        return ""
    parts = ", ".join(
        f"{len(paths):,} {why} ({paths[0]}{' ...' * (len(paths) > 1)})"
        for why, paths in sorted(left_out.items())
    )
    count = sum(map(len, left_out.values()))
    return f"{count:,} file{'s' * (count != 1)} or folders left out: {parts}".replace(
        "1 file or folders", "1 file or folder"
    )


def picture_files(path: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Return the file itself, or the image files in a directory and its subfolders.

    Args:
        path: a file or a directory.
        left_out: everything in the directory that is left out is added to it, with the reason.

    Raises:
        UserError: there is no such path, or no image file in the directory.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"images={path}: there is no such file or directory.")
    left_out = {} if left_out is None else left_out
    pictures = pictures_below(path, path, left_out)
    if not pictures:
        more = f" {describe_left_out(left_out)}." if left_out else ""
        raise UserError(f"images={path}: no picture in it ({' '.join(SUFFIXES)}).{more}")
    return pictures


def read_picture(path: Path, view: View) -> UInt8[np.ndarray, "height width channels"]:
    """Return the central crop of an image file, preprocessed as photographs are at evaluation.

    Args:
        path: path of the file.
        view: how the image is cropped and resized.

    Raises:
        jpeg.UnreadableError: the file cannot be read as an image, or has too many pixels.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise jpeg.UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    image = np.empty(view.image_shape, np.uint8)
    show_into(image, data, str(path), view)
    return image


def is_turned(path: Path) -> bool:
    """Return whether the EXIF orientation of a file is other than upright."""
    return jpeg.orientation(path.read_bytes()) != jpeg.UPRIGHT
