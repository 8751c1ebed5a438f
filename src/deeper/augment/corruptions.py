"""The 15 corruptions of ImageNet-C on the device, for images of any size.

Hendrycks and Dietterich 2019 (arXiv:1903.12261). Each corruption is a draw and a function of the
image, what was drawn and the strength (`corruption_tables`), so that the functions can be held
against the published ones on the same draws: ``experiments/robustness/golden.py``. What the
published code does is kept where it is odd, and said here:

- images are uint8, and results are cut off to uint8, not rounded (by NumPy, and by ImageMagick);
- glass blur is a chain of copies and no exchange of pixels, since NumPy's ``a, b = b, a`` of two
  views copies one onto the other;
- frost is drawn from the first five of the six pictures.

Grey images are corrupted as they are; the published sets have colours alone. Of a grey image an
equal colour image's result is got, up to the noise, which is one value a pixel, and frost, whose
pictures are turned grey.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8
from PIL import Image as Pillow
from scipy import ndimage

from deeper.augment.corruption_tables import SETS
from deeper.augment.jpeg import jpeg

Image = Float[Array, "height width channels"]  # 0 to 1
Stored = UInt8[Array, "height width channels"]
Layer = Float[Array, "height width"]
HIGHEST = lax.Precision.HIGHEST
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Pictures:
    """The frost pictures, of several sizes in one array.

    Attributes:
        pixels: uint8 (pictures, height, width, channels), filled up with zeros.
        sizes: int32 (pictures, 2), height and width of each.
    """

    pixels: Any
    sizes: Any


jax.tree_util.register_dataclass(Pictures, ["pixels", "sizes"], [])


@dataclass(frozen=True)
class Corruption:
    """A corruption.

    Attributes:
        draw: (key, image, strength, pictures) -> what is drawn for one image.
        apply: (stored image, draws, strength) -> values of 0 to 255.
    """

    draw: Callable[[Any, Stored, Any, Pictures | None], Any]
    apply: Callable[[Stored, Any, Any], Array]


def corrupt(
    name: str,
    strengths: str,
    severity: int | Int[Array, ""],
    images: UInt8[Array, "batch height width channels"],
    numbers: Int[Array, " batch"],
    pictures: Pictures | None = None,
    quality: int | None = None,
) -> UInt8[Array, "batch height width channels"]:
    """Corrupt a batch; a draw depends on corruption, severity and the example's number alone.

    Args:
        name: of the corruption.
        strengths: the data set whose strengths are meant, see `SETS`.
        severity: 1 to 5; as an array, an argument of one compiled program for all of them.
        images: 0 to 255, one or three channels.
        numbers: of the examples, in their split.
        pictures: of frost; other corruptions need none.
        quality: JPEG quality at which the results are saved, as the files of ImageNet-C are.
    """
    key = jax.random.key(1000 * severity + [*CORRUPTIONS].index(name), impl="threefry2x32")
    table, one = SETS[strengths][name], CORRUPTIONS[name]

    def corrupted(number: Array, image: Stored) -> Stored:
        own = jax.random.fold_in(key, number)
        if isinstance(severity, int):
            strength = table[severity - 1]
            result = stored(one.apply(image, one.draw(own, image, strength, pictures), strength))
        elif one.draw is _shifts:  # as many as the strength says
            result = _switched(
                severity, table, lambda s: one.apply(image, one.draw(own, image, s, pictures), s)
            )
        else:
            rate = jnp.asarray(table)[severity - 1] if one.draw is _photons else None
            draws = one.draw(own, image, rate, pictures)
            result = _switched(severity, table, lambda s: one.apply(image, draws, s))
        return result if quality is None else jpeg(result, quality)

    return jax.vmap(corrupted)(numbers, images)


def _switched(severity: Array, table: Sequence[Any], apply: Callable[[Any], Array]) -> Stored:
    """Return the stored result of a function at the strength of a severity."""
    branches = [lambda strength=strength: stored(apply(strength)) for strength in table]
    return lax.switch(severity - 1, branches)


def stored(values: Array) -> Stored:
    """Return values of 0 to 255 as uint8, cut off as NumPy does."""
    return values if values.dtype == jnp.uint8 else jnp.clip(values, 0, 255).astype(jnp.uint8)


# --- what is drawn ------------------------------------------------------------------------------


def _nothing(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> None:
    return None


def _normal(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Array:
    return jax.random.normal(key, image.shape)


def _photons(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Array:
    return jax.random.poisson(key, _unit(image) * strength)


def _two_uniform(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Array:
    return jax.random.uniform(key, (2, *image.shape))


def _shifts(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Array:
    _, largest, passes = strength
    height, width = (max(0, side - 2 * largest) for side in image.shape[:2])
    return jax.random.randint(key, (passes, height, width, 2), -largest, largest)


def _angle(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Array:
    return jax.random.uniform(key, (), minval=-45.0, maxval=45.0)


def _flakes(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Any:
    flakes, angle = jax.random.split(key)
    layer = jax.random.normal(flakes, image.shape[:2])
    return layer, jax.random.uniform(angle, (), minval=-135.0, maxval=-45.0)


def _levels(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Any:
    levels = _size_of_map(image.shape).bit_length() - 1
    keys = jax.random.split(key, levels)
    return [
        jax.random.uniform(keys[i], (3, 2**i, 2**i), minval=-1.0, maxval=1.0) for i in range(levels)
    ]


def _ice(key: Key[Array, ""], image: Stored, strength: Any, pictures: Pictures | None) -> Stored:
    if pictures is None:
        raise ValueError("frost needs its pictures")
    which, place = jax.random.split(key)
    shape = image.shape[:2]
    number = jax.random.randint(which, (), 0, len(pictures.pixels))
    room = jnp.asarray(pictures.sizes)[number] - np.array(shape)
    begins = jax.random.randint(place, (2,), 0, room)
    picture = lax.dynamic_index_in_dim(jnp.asarray(pictures.pixels), number, keepdims=False)
    return lax.dynamic_slice(picture, (*begins, 0), (*shape, image.shape[2]))


def _displacements(key: Key[Array, ""], image: Stored, strength: Any, pictures: Any) -> Any:
    corners, details = jax.random.split(key)
    return (
        jax.random.uniform(corners, (3, 2), minval=-1.0, maxval=1.0),
        jax.random.uniform(details, (2, *image.shape[:2]), minval=-1.0, maxval=1.0),
    )


# --- noise --------------------------------------------------------------------------------------


def _unit(image: Stored) -> Image:
    return image.astype(jnp.float32) / 255


def gaussian_noise(image: Stored, noise: Image, deviation: float) -> Array:
    """Add normal noise."""
    return 255 * jnp.clip(_unit(image) + deviation * noise, 0, 1)


def shot_noise(image: Stored, counts: Array, white: int) -> Array:
    """Return the brightness of each pixel's count of photons."""
    del image
    levels = np.uint8(255 * (np.arange(white + 1) / white))  # in float64, as they are cut off
    return jnp.asarray(levels)[jnp.clip(counts.astype(jnp.int32), 0, white)]


def impulse_noise(image: Stored, uniform: Array, share: float) -> Array:
    """Set a share of the values to black or white."""
    struck, salt = uniform[0] <= share, uniform[1] <= 0.5
    return jnp.where(struck, jnp.where(salt, 255, 0).astype(jnp.uint8), image)


# --- blur ---------------------------------------------------------------------------------------


def _by_matrices(rows: np.ndarray, image: Array, columns: np.ndarray) -> Array:
    """Apply one linear map to the columns and one to the rows of an image."""
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision=HIGHEST)


def _gaussian(side: int, sigma: float, mode: str = "nearest", truncate: float = 4.0) -> np.ndarray:
    """Return the matrix of SciPy's Gaussian filter over that many pixels."""
    eye = np.eye(side)
    whole = ndimage.gaussian_filter(eye, (sigma, 0), mode=mode, truncate=truncate)
    return whole.astype(np.float32)


def _blurred(image: Image, sigma: float) -> Image:
    height, width, _ = image.shape
    return _by_matrices(_gaussian(height, sigma), image, _gaussian(width, sigma))


def defocus_blur(image: Stored, draws: None, strength: tuple[float, float]) -> Array:
    """Average over a disk with a softened edge."""
    radius, softening = strength
    reach, soft = (8, 3) if radius <= 8 else (radius, 5)
    at = np.arange(-reach, reach + 1)
    disk = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(np.float32)
    weights = np.exp(-((np.arange(soft) - soft // 2) ** 2) / (2 * softening**2))
    weights, kernel = weights / weights.sum(), disk / disk.sum()
    for axis in (0, 1):  # OpenCV's default edge, which SciPy calls mirror
        kernel = ndimage.correlate1d(kernel, weights, axis, mode="mirror")
    rows, columns = (_mirrored(jnp.arange(-reach, side + reach), side) for side in image.shape[:2])
    padded = _unit(image)[rows][:, columns]
    blurred = lax.conv_general_dilated(
        padded.transpose(2, 0, 1)[:, None],
        jnp.asarray(kernel)[None, None],
        (1, 1),
        "VALID",
        precision=HIGHEST,
    )
    return 255 * jnp.clip(blurred[:, 0].transpose(1, 2, 0), 0, 1)


def _mirrored(places: Array, side: int) -> Array:
    """Return places beyond the edge as places inside; the edge pixel is not repeated."""
    period = max(1, 2 * side - 2)
    places = places % period
    return jnp.minimum(places, period - places)


def glass_blur(image: Stored, shifts: Array, strength: tuple[float, int, int]) -> Array:
    """Copy pixels from nearby, between two blurs."""
    sigma, largest, _ = strength
    height, width, channels = image.shape
    pixels = stored(255 * _blurred(_unit(image), sigma)).reshape(height * width, channels)
    for shift in shifts:
        pixels = pixels[_sources(shift, height, width, largest)]
    return 255 * jnp.clip(_blurred(_unit(pixels.reshape(image.shape)), sigma), 0, 1)


def _sources(
    shift: Int[Array, "rows columns 2"], height: int, width: int, largest: int
) -> Int[Array, " pixels"]:
    """Return the pixel whose old value each pixel has after one pass of copies.

    The pixels are visited one by one, from the lower right on, and each gets the value that another
    one has at that time: the new value, if that one was visited before, and then one has to go on
    from there. The chains are followed by doubling their length.

    Args:
        shift: (dx, dy) for each pixel that is visited, in the order of the visits.
        height: of the image.
        width: of the image.
        largest: the margin that is not visited; less by one at the lower right.
    """
    own = jnp.arange(height * width).reshape(height, width)
    inner = (slice(largest + 1, height - largest + 1), slice(largest + 1, width - largest + 1))
    target = own[inner] + shift[::-1, ::-1, 1] * width + shift[::-1, ::-1, 0]
    visited = jnp.zeros((height, width), bool).at[inner].set(True).reshape(-1)
    source = own.at[inner].set(target).reshape(-1)
    # Where the value is an old one: of a pixel that is not visited, or is visited later.
    final = ~visited[source] | (source <= own.reshape(-1)) | ~visited

    def longer(state: tuple[Array, Array]) -> tuple[Array, Array]:
        source, final = state
        return jnp.where(final, source, source[source]), final | final[source]

    return lax.while_loop(lambda state: ~state[1].all(), longer, (source, final))[0]


def motion_blur(image: Stored, angle: Array, strength: tuple[int, float]) -> Array:
    """Average along a line, as ImageMagick does."""
    return _moved(image.astype(jnp.float32), angle, *strength)


def _moved(image: Array, angle: Array, radius: float, sigma: float) -> Array:
    """Return the image (height, width, channels) blurred by MotionBlurImage of ImageMagick 6.

    Args:
        image: of any scale.
        angle: degrees.
        radius: pixels; the line is ``2 radius + 1`` long and goes one way.
        sigma: of the weights, half a Gaussian.
    """
    steps = np.arange(2 * int(np.ceil(radius)) + 1, dtype=np.float32)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    down = jnp.ceil(steps * jnp.sin(jnp.deg2rad(angle)) - 0.5).astype(jnp.int32)
    right = jnp.ceil(steps * jnp.cos(jnp.deg2rad(angle)) - 0.5).astype(jnp.int32)
    height, width, _ = image.shape

    def add(total: Array, step: Any) -> tuple[Array, None]:
        weight, down, right = step
        rows = jnp.clip(jnp.arange(height) + down, 0, height - 1)
        columns = jnp.clip(jnp.arange(width) + right, 0, width - 1)
        return total + weight * image[rows][:, columns], None

    return lax.scan(add, jnp.zeros_like(image), (weights, down, right))[0]


def _zoom(side: int, factor: float) -> np.ndarray:
    """Return the matrix that enlarges the middle of that many pixels (clipped_zoom)."""
    kept = int(np.ceil(side / factor))
    begin = (side - kept) // 2
    larger = ndimage.zoom(np.eye(kept), (factor, 1), order=1)
    trim = (len(larger) - side) // 2
    matrix = np.zeros((side, side), np.float32)
    matrix[:, begin : begin + kept] = larger[trim : trim + side]
    return matrix


def zoom_blur(image: Stored, draws: None, factors: Sequence[float]) -> Array:
    """Average over enlargements."""
    pixels = _unit(image)
    height, width, _ = image.shape
    rows, columns = (
        np.stack([_zoom(side, factor) for factor in factors]) for side in (height, width)
    )

    def add(total: Array, matrices: Any) -> tuple[Array, None]:
        return total + _by_matrices(matrices[0], pixels, matrices[1]), None

    total = lax.scan(add, pixels, (rows, columns))[0]
    return 255 * jnp.clip(total / (len(factors) + 1), 0, 1)


# --- weather ------------------------------------------------------------------------------------


def snow(image: Stored, draws: tuple[Layer, Array], strength: Sequence[float]) -> Array:
    """Whiten the image, and add flakes that are blurred by motion, once as they are and once
    turned by 180 degrees.
    """
    mean, deviation, zoom, least, radius, sigma, share = strength
    noise, angle = draws
    height, width, _ = image.shape
    layer = (mean + deviation * noise)[..., None]
    layer = _by_matrices(_zoom(height, zoom), layer, _zoom(width, zoom))
    flakes = stored(255 * jnp.clip(jnp.where(layer < least, 0, layer), 0, 1))
    moved = _unit(stored(_moved(flakes.astype(jnp.float32), angle, radius, sigma)))
    pixels = _unit(image)
    pale = jnp.maximum(pixels, 1.5 * _grey(pixels) + 0.5)
    return 255 * jnp.clip(share * pixels + (1 - share) * pale + moved + moved[::-1, ::-1], 0, 1)


def _grey(image: Array) -> Array:
    """Return the luminance (height, width, 1)."""
    if image.shape[2] == 1:
        return image
    return sum(weight * image[..., i, None] for i, weight in enumerate(LUMA))  # type: ignore[return-value]


def frost(image: Stored, ice: Stored, strength: tuple[float, float]) -> Array:
    """Add a picture of ice."""
    own, other = strength
    return jnp.clip(own * image.astype(jnp.float32) + other * ice.astype(jnp.float32), 0, 255)


def _size_of_map(shape: Sequence[int]) -> int:
    return max(2, 1 << (max(shape[:2]) - 1).bit_length())


def fog(image: Stored, draws: Sequence[Array], strength: tuple[float, float]) -> Array:
    """Add a cloud of the diamond-square algorithm."""
    amount, decay = strength
    pixels = _unit(image)
    height, width, _ = image.shape
    largest = pixels.max()
    cloud = _cloud(draws, decay)[:height, :width, None]
    return 255 * jnp.clip((pixels + amount * cloud) * largest / (largest + amount), 0, 1)


def _cloud(draws: Sequence[Array], decay: float) -> Layer:
    """Return a fractal of 0 to 1 (plasma_fractal).

    Args:
        draws: of each level, from the coarsest: -1 to 1, (3, cells, cells) for squares' centres,
            upper and left edges.
        decay: by which each level's amplitude falls.
    """
    grid, amplitude = jnp.zeros((1, 1)), 100.0
    for middles, tops, lefts in draws:
        total = grid + jnp.roll(grid, -1, 0)
        middle = (total + jnp.roll(total, -1, 1)) / 4 + amplitude**2 * middles
        top = middle + jnp.roll(middle, 1, 0) + grid + jnp.roll(grid, -1, 1)
        left = middle + jnp.roll(middle, 1, 1) + grid + jnp.roll(grid, -1, 0)
        upper = jnp.stack([grid, top / 4 + amplitude**2 * tops], axis=2)
        lower = jnp.stack([left / 4 + amplitude**2 * lefts, middle], axis=2)
        grid = jnp.stack([upper, lower], axis=1).reshape(2 * len(grid), -1)
        amplitude /= decay
    grid = grid - grid.min()
    return grid / grid.max()


# --- digital ------------------------------------------------------------------------------------


def brightness(image: Stored, draws: None, amount: float) -> Array:
    """Raise the value (of hue, saturation and value)."""
    pixels = _unit(image)
    value = pixels.max(axis=2, keepdims=True)
    raised = jnp.clip(value + amount, 0, 1)
    # Hue and saturation are ratios of the channels, which stay; black has none, and becomes grey.
    shares = jnp.where(value > 0, pixels / jnp.where(value > 0, value, 1), 1)
    return 255 * raised * shares


def contrast(image: Stored, draws: None, share: float) -> Array:
    """Move every channel towards its mean."""
    pixels = _unit(image)
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return 255 * jnp.clip((pixels - mean) * share + mean, 0, 1)


def elastic_transform(
    image: Stored, draws: tuple[Array, Array], strength: Sequence[float]
) -> Array:
    """Move three points, and with them the image, and then each pixel a little."""
    amount, sigma, corners = strength
    moves, details = draws
    height, width, _ = image.shape
    centre, size = np.array([height // 2, width // 2], float), min(height, width) // 3
    signs = np.array([[1, 1], [1, -1], [-1, -1]])
    pixels = _warped(_unit(image), centre + size * signs, moves * corners)

    rows = _gaussian(height, sigma, "reflect", 3.0)
    columns = _gaussian(width, sigma, "reflect", 3.0)
    shifts = amount * jnp.einsum("ih,nhw,jw->nij", rows, details, columns, precision=HIGHEST)
    right, down = shifts
    y = jnp.arange(height, dtype=jnp.float32)[:, None] + down
    x = jnp.arange(width, dtype=jnp.float32)[None] + right
    top, left = jnp.floor(y), jnp.floor(x)
    places = (top.astype(jnp.int32), left.astype(jnp.int32))
    return 255 * jnp.clip(_between(pixels, places, (y - top, x - left), _repeated), 0, 1)


def _repeated(places: Array, side: int) -> Array:
    """Return places beyond the edge as places inside; the edge pixel is repeated."""
    places = places % (2 * side)
    return jnp.minimum(places, 2 * side - 1 - places)


def _between(
    image: Array,
    places: tuple[Array, Array],
    shares: tuple[Array, Array],
    beyond: Callable[[Array, int], Array],
) -> Array:
    """Interpolate linearly between the pixel at (row, column) and its lower right neighbours."""
    rows = [beyond(places[0] + i, image.shape[0]) for i in (0, 1)]
    columns = [beyond(places[1] + i, image.shape[1]) for i in (0, 1)]
    down, right = (share[..., None] for share in shares)
    upper, lower = ((1 - right) * image[row, columns[0]] + right * image[row, columns[1]]
                    for row in rows)  # fmt: skip
    return (1 - down) * upper + down * lower


def _warped(image: Array, points: np.ndarray, moves: Float[Array, "3 2"]) -> Array:
    """Return the image under the affine map that moves three points, as OpenCV's warpAffine does.

    Args:
        image: (height, width, channels).
        points: (x, y) of three points.
        moves: of these.
    """
    known = np.linalg.inv(np.column_stack([points, np.ones(3)])).astype(np.float32)
    # The map is the identity and a small rest, which float32 has exactly enough of.
    rest = jnp.einsum("ij,jk->ki", known, moves, precision=HIGHEST)  # of (x, y, 1)
    a, b, c = 1 + rest[0, 0], rest[0, 1], rest[0, 2]
    d, e, f = rest[1, 0], 1 + rest[1, 1], rest[1, 2]
    scale = 1 / (a * e - b * d)
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    c, f = -(a * c + b * f), -(d * c + e * f)
    height, width, _ = image.shape
    x, y = (
        jnp.arange(width, dtype=jnp.float32)[None],
        jnp.arange(height, dtype=jnp.float32)[:, None],
    )

    def fixed(values: Array) -> Array:
        return jnp.round(values * 1024).astype(jnp.int32)

    # Coordinates are rounded to a 32nd of a pixel.
    column = (fixed(b * y + c) + 16 + fixed(a * x)) >> 5
    row = (fixed(e * y + f) + 16 + fixed(d * x)) >> 5
    shares = ((row & 31) / 32, (column & 31) / 32)
    return _between(image, (row >> 5, column >> 5), shares, _mirrored)


def pixelate(image: Stored, draws: None, share: float) -> Array:
    """Make the image smaller and large again by averages over boxes, as Pillow does."""
    height, width, _ = image.shape
    small = int(height * share), int(width * share)
    for sides, old in ((small, (height, width)), ((height, width), small)):
        for axis in (1, 0):
            matrix = _boxes(old[axis], sides[axis])
            way = "ih,hwc->iwc" if axis == 0 else "ih,whc->wic"
            pixels = jnp.einsum(way, matrix, image.astype(jnp.float32), precision=HIGHEST)
            image = _rounded(pixels)
    return image


def _rounded(values: Array) -> Stored:
    return jnp.clip(jnp.floor(values + 0.5), 0, 255).astype(jnp.uint8)


def _boxes(old: int, new: int) -> np.ndarray:
    """Return the matrix of Pillow's box filter."""
    eye = Pillow.fromarray(np.eye(old, dtype=np.float32))
    return np.asarray(eye.resize((new, old), Pillow.Resampling.BOX)).T.copy()


def jpeg_compression(image: Stored, draws: None, quality: int) -> Array:
    """Save as JPEG."""
    return jpeg(image, quality)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_normal, gaussian_noise),
    "shot_noise": Corruption(_photons, shot_noise),
    "impulse_noise": Corruption(_two_uniform, impulse_noise),
    "defocus_blur": Corruption(_nothing, defocus_blur),
    "glass_blur": Corruption(_shifts, glass_blur),
    "motion_blur": Corruption(_angle, motion_blur),
    "zoom_blur": Corruption(_nothing, zoom_blur),
    "snow": Corruption(_flakes, snow),
    "frost": Corruption(_ice, frost),
    "fog": Corruption(_levels, fog),
    "brightness": Corruption(_nothing, brightness),
    "contrast": Corruption(_nothing, contrast),
    "elastic_transform": Corruption(_displacements, elastic_transform),
    "pixelate": Corruption(_nothing, pixelate),
    "jpeg_compression": Corruption(_nothing, jpeg_compression),
}
