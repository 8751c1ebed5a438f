"""The operations that policies draw from, the unit of each strength, and its limits."""

# Operation -> meaning and unit of its strength. An operation's number is its place in `KINDS`.
STRENGTHS = {
    "identity": "none",
    "shear_x": "pixels a row moves for each row above it, times -1",
    "shear_y": "pixels a column moves for each column to its left, times -1",
    "translate_x": "pixels to the right, without their fraction",
    "translate_y": "pixels downwards, without their fraction",
    "rotate": "degrees counter-clockwise about the centre",
    "scale": "magnification about the centre",
    "brightness": "factor; 0 is black, 1 the image",
    "contrast": "factor; 0 is the mean grey, 1 the image",
    "saturation": "factor; 0 is grey, 1 the image",
    "sharpness": "factor; 0 is smoothed, 1 the image",
    "hue": "part of the colour circle, -0.5 to 0.5",
    "posterize": "bits kept, 0 to 8",
    "solarize": "values from this one on are inverted, 0 to 256",
    "autocontrast": "none",
    "equalize": "none",
    "invert": "none",
    "greyscale": "none",
    "solarize_add": "added to values below 128, 0 to 255",
}
KINDS = tuple(STRENGTHS)
GEOMETRIC = KINDS[1:7]
WHOLE_ROWS = ("shear_x", "translate_x", "translate_y")  # shift rows without changing them
COLOUR = ("saturation", "hue", "greyscale")  # without effect on a grey image
# Operation -> lowest and highest strength allowed.
LIMITS = {
    "shear_x": (-10.0, 10.0),
    "shear_y": (-10.0, 10.0),
    "translate_x": (-4096.0, 4096.0),
    "translate_y": (-4096.0, 4096.0),
    "rotate": (-360.0, 360.0),
    "scale": (0.01, 100.0),
    "brightness": (0.0, 100.0),
    "contrast": (0.0, 100.0),
    "saturation": (0.0, 100.0),
    "sharpness": (0.0, 100.0),
    "hue": (-0.5, 0.5),
    "posterize": (0.0, 8.0),
    "solarize": (0.0, 256.0),
    "solarize_add": (0.0, 255.0),
}
