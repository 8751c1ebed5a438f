"""The cases that are compared with Pillow and torchvision: operations, strengths, crops, blurs."""

# Operation -> strengths; see deeper.augment.op_table. Scale factors at which a source lies exactly
# between two pixels are left out, since the result depends on rounding errors, in Pillow as in
# ours.
STRENGTHS = {
    "identity": (0.0,),
    "shear_x": (0.09, 0.3, -0.3, 0.99),
    "shear_y": (0.09, 0.3, -0.3, 0.99),
    "translate_x": (10.9, -7.2, 21.0),
    "translate_y": (10.9, -7.2, 21.0),
    "rotate": (9.0, -30.0, 77.7, 135.0),
    "scale": (0.73, 1.37, 2.0),
    "brightness": (0.1, 0.73, 1.27, 1.9),
    "contrast": (0.1, 0.73, 1.27, 1.9),
    "saturation": (0.0, 0.73, 1.27, 1.9),
    "sharpness": (0.0, 0.73, 1.27, 1.9),
    "hue": (-0.5, -0.1, 0.03, 0.25),
    "posterize": (1.0, 4.0, 7.0),
    "solarize": (0.0, 100.4, 178.5, 255.0),
    "autocontrast": (0.0,),
    "equalize": (0.0,),
    "invert": (0.0,),
    "greyscale": (0.0,),
    "solarize_add": (0.0, 66.0, 110.0, 200.0),
}
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "scale")
FILL = (30, 128, 220)  # fill of geometric operations; grey images use only the first value

# (top, left, height, width) of a crop, and the size that it is resized to
CROPS = (((0, 0, 48, 64), (48, 64)), ((5, 9, 31, 40), (28, 28)), ((7, 2, 11, 17), (48, 48)))
BLURS = ((3, 0.1), (5, 0.8), (9, 2.0))  # number of taps, standard deviation

# Policy -> arguments of its space of operations, for images of 48x64.
HEIGHT, WIDTH, BINS = 48, 64, 31


def names():
    """Yield every combination of operation, strength and interpolation to compare."""
    for kind, strengths in STRENGTHS.items():
        for strength in strengths:
            for how in ("nearest", "bilinear") if kind in GEOMETRIC else ("nearest",):
                yield kind, strength, how
