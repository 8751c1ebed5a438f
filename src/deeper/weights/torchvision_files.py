"""The files of weights that torchvision publishes, and how each net's images were shown to it.

Taken from the ``transforms`` of `torchvision.models.get_model_weights` of torchvision 0.29: all
nets take the middle 224 pixels, resized bilinearly with antialiasing, and ImageNet's mean and
standard deviation. A file is known by the beginning of its SHA-256, which is in its name.
"""

# First 8 digits of the SHA-256 -> net, weights, and pixels of the resized shorter side.
PUBLISHED = {
    "7be5be79": ("alexnet", "IMAGENET1K_V1", 256),
    "8a719046": ("vgg11", "IMAGENET1K_V1", 256),
    "6002323d": ("vgg11_bn", "IMAGENET1K_V1", 256),
    "19584684": ("vgg13", "IMAGENET1K_V1", 256),
    "abd245e5": ("vgg13_bn", "IMAGENET1K_V1", 256),
    "397923af": ("vgg16", "IMAGENET1K_V1", 256),
    "6c64b313": ("vgg16_bn", "IMAGENET1K_V1", 256),
    "dcbb9e9d": ("vgg19", "IMAGENET1K_V1", 256),
    "c79401a0": ("vgg19_bn", "IMAGENET1K_V1", 256),
    "1378be20": ("googlenet", "IMAGENET1K_V1", 256),
    "f37072fd": ("resnet18", "IMAGENET1K_V1", 256),
    "b627a593": ("resnet34", "IMAGENET1K_V1", 256),
    "0676ba61": ("resnet50", "IMAGENET1K_V1", 256),
    "11ad3fa6": ("resnet50", "IMAGENET1K_V2", 232),
    "63fe2227": ("resnet101", "IMAGENET1K_V1", 256),
    "cd907fc2": ("resnet101", "IMAGENET1K_V2", 232),
    "394f9c45": ("resnet152", "IMAGENET1K_V1", 256),
    "f82ba261": ("resnet152", "IMAGENET1K_V2", 232),
    "7cdf4587": ("resnext50_32x4d", "IMAGENET1K_V1", 256),
    "1a0047aa": ("resnext50_32x4d", "IMAGENET1K_V2", 232),
    "8ba56ff5": ("resnext101_32x8d", "IMAGENET1K_V1", 256),
    "110c445d": ("resnext101_32x8d", "IMAGENET1K_V2", 232),
    "173b62eb": ("resnext101_64x4d", "IMAGENET1K_V1", 232),
    "95faca4d": ("wide_resnet50_2", "IMAGENET1K_V1", 256),
    "9ba9bcbe": ("wide_resnet50_2", "IMAGENET1K_V2", 232),
    "32ee1156": ("wide_resnet101_2", "IMAGENET1K_V1", 256),
    "d733dc28": ("wide_resnet101_2", "IMAGENET1K_V2", 232),
}
