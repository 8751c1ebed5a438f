"""Names of torchvision and timm, and what a file tells of its net, for later families of nets.

Each module is of one family and has

- ``NET``: our class,
- ``KIND``: what messages call it,
- ``ANCHORS``: names of arrays that every such net has, torchvision's and timm's,
- ``HEAD``, ``LAST``: torchvision's prefix of the last layer; our layers that end in the classes,
- ``FIRST``: torchvision's name of the first convolution's kernel,
- ``names(model)``: path of our layer -> torchvision's prefix,
- ``architecture(shapes)``: the net that arrays of torchvision's names and of such shapes are of,
- ``from_timm(name)``, ``to_timm(name)``: torchvision's name of an array of timm's, and back.
"""

from typing import Any

from deeper.weights.families import convnext, densenet, inception_v3, mobilenet_v2, regnet

FAMILIES: tuple[Any, ...] = (densenet, mobilenet_v2, convnext, regnet, inception_v3)
