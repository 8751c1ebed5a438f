"""Picture files as arrays: what people have, turned into what a net takes."""

from pathlib import Path, PurePath

import numpy as np
from jaxtyping import UInt8

from deeper.data import jpeg
from deeper.data.encoded_images import View, show_into
from deeper.errors import UserError

# What Pillow reads and people keep pictures in, torchvision's list among it. The list is fixed: the
# content of a data set must not depend on what a machine's Pillow was built with, and of a file it
# cannot read it is said. Of an animation (.gif, .webp) the first picture is taken.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga"),
)


LeftOut = dict[str, list[str]]  # why -> what, by its path


def pictures_below(folder: Path, root: Path, left_out: LeftOut) -> list[Path]:
    """Return the pictures in a folder and below it, by name.

    Links to files are followed, links to folders are not: they may lead in a circle.

    Args:
        folder: where to look.
        root: what the paths in ``left_out`` begin below.
        left_out: told of all that is passed over, and why.
    """
    found = []
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
                found += pictures_below(path, root, left_out)
        elif not path.exists():
            _leave_out(path, "broken links", root, left_out)
        elif path.suffix.lower() not in SUFFIXES:
            _leave_out(path, path.suffix.lower() or "without a suffix", root, left_out)
        elif path.is_file():
            found.append(path)
        else:
            _leave_out(path, "pipes or devices", root, left_out)
    return sorted(found)


def is_hidden(path: PurePath) -> bool:
    """Return whether a name is what systems and editors keep for themselves."""
    return path.name.startswith(".") or path.name in ("__MACOSX", "@eaDir")


def _leave_out(path: Path, why: str, root: Path, left_out: LeftOut) -> None:
    left_out.setdefault(why, []).append(str(path.relative_to(root)))


def told(left_out: LeftOut) -> str:
    """Return in a line what was left out; empty if nothing was."""
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
    """Return a file, or the pictures in a directory and below it, by name.

    Args:
        path: of either.
        left_out: told of what is in the directory and is not among them.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"images={path}: there is no such file or directory.")
    left_out = {} if left_out is None else left_out
    found = pictures_below(path, path, left_out)
    if not found:
        more = f" {told(left_out)}." if left_out else ""
        raise UserError(f"images={path}: no picture in it ({' '.join(SUFFIXES)}).{more}")
    return found


def read_picture(path: Path, view: View) -> UInt8[np.ndarray, "height width channels"]:
    """Return the middle of a picture, as a photograph is evaluated.

    Args:
        path: of the file.
        view: how it is shown.

    Raises:
        jpeg.UnreadableError: the file cannot be read as a picture, or has too many pixels.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise jpeg.UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    image = np.empty(view.image_shape, np.uint8)
    show_into(image, data, str(path), view)
    return image


def is_turned(path: Path) -> bool:
    """Return whether a file has an EXIF entry by which it is to be turned."""
    return jpeg.orientation(path.read_bytes()) != jpeg.UPRIGHT
