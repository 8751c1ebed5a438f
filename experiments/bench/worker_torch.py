"""Times training steps of PyTorch on request: reads a number of steps, prints seconds.

Run by step.py in a separate virtual environment. The nets are those of the papers, in torchvision's
form; the optimizer is SGD with Nesterov momentum and weight decay.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A basic or bottleneck block."""

    def __init__(self, c_in, width, stride, bottleneck, projection):
        super().__init__()
        c_out = width * 4 if bottleneck else width
        if bottleneck:
            kernels, channels, strides = (1, 3, 1), (width, width, c_out), (1, stride, 1)
        else:
            kernels, channels, strides = (3, 3), (width, width), (stride, 1)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        previous = c_in
        for kernel, c, s in zip(kernels, channels, strides):
            self.convs.append(nn.Conv2d(previous, c, kernel, s, kernel // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(c))
            previous = c
        changes = stride != 1 or c_in != c_out
        self.stride, self.extra = stride, c_out - c_in
        self.down = None
        if changes and projection:
            self.down = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = norm(conv(y))
            if i < len(self.convs) - 1:
                y = F.relu(y, inplace=True)
        if self.down is not None:
            x = self.down(x)
        elif self.extra or self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return F.relu(y + x, inplace=True)


def resnet(stages, width, bottleneck, imagenet, classes, c_in=3, stem_stride=1):
    """An ImageNet-form or CIFAR-form residual net; the stride is the CIFAR form's."""
    if imagenet:
        layers = [nn.Conv2d(c_in, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
    else:
        conv = nn.Conv2d(c_in, width, 3, stem_stride, 1, bias=False)
        layers = [conv, nn.BatchNorm2d(width), nn.ReLU(True)]
    c = width
    for i, blocks in enumerate(stages):
        for b in range(blocks):
            stride = 2 if i and not b else 1
            layers.append(Block(c, width * 2**i, stride, bottleneck, imagenet))
            c = width * 2**i * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))


def vgg16(classes):
    """VGG-16 for 32 pixels: hidden layers of 512."""
    layers, c = [], 3
    for count, width in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU(True)]
            c = width
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Dropout(), nn.Linear(512, classes))


def lenet5(classes):
    """LeNet-5 with dense C3, on 28 pixels padded to 32."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(True), nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 16, 5), nn.ReLU(True), nn.MaxPool2d(2, 2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(True), nn.Linear(120, 84), nn.ReLU(True),
        nn.Linear(84, classes),
    )  # fmt: skip


class TextBlock(nn.Module):
    """Two convolutions of 3 along a text, with a shortcut around them."""

    def __init__(self, before, width):
        super().__init__()
        self.conv1 = nn.Conv1d(before, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.down = None
        if before != width:
            conv = nn.Conv1d(before, width, 1, bias=False)
            self.down = nn.Sequential(conv, nn.BatchNorm1d(width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.down is None else self.down(x)), inplace=True)


class VDCNN(nn.Module):
    """VDCNN with shortcuts and max pooling, which reads the padding."""

    def __init__(self, blocks, tokens, classes):
        super().__init__()
        self.embedding = nn.Embedding(tokens, 16, padding_idx=0)
        layers, before = [nn.Conv1d(16, 64, 3, padding=1, bias=False)], 64
        for number, count in enumerate(blocks):
            if number:
                layers.append(nn.MaxPool1d(3, 2, 1))
            for _ in range(count):
                layers.append(TextBlock(before, 64 * 2**number))
                before = 64 * 2**number
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * before, 2048), nn.ReLU(True),
            nn.Linear(2048, 2048), nn.ReLU(True), nn.Linear(2048, classes),
        )  # fmt: skip

    def forward(self, tokens):
        x = self.layers(self.embedding(tokens).transpose(1, 2))
        places = x.topk(8, dim=2).indices.sort(dim=2).values
        return self.dense(x.gather(2, places))


class TextCNN(nn.Module):
    """TextCNN, all of whose vectors of words are trained, and which reads the padding."""

    def __init__(self, tokens, classes):
        super().__init__()
        self.embedding = nn.Embedding(tokens, 300, padding_idx=0)
        self.convs = nn.ModuleList(
            [nn.Conv1d(300, 100, width, padding=width - 1) for width in (3, 4, 5)]
        )
        self.dense = nn.Sequential(nn.Dropout(), nn.Linear(300, classes))

    def forward(self, tokens):
        x = self.embedding(tokens).transpose(1, 2)
        return self.dense(torch.cat([F.relu(conv(x)).amax(2) for conv in self.convs], 1))


def waveform(first, stages, classes):
    """A net of raw waveforms: M3, M5, M11 or M18."""
    layers, before = [nn.Conv1d(1, first, 80, 4, 38, bias=False), nn.BatchNorm1d(first)], first
    layers += [nn.ReLU(True), nn.MaxPool1d(4, ceil_mode=True)]
    for number, count in enumerate(stages):
        width = first * 2**number
        for _ in range(count):
            layers += [nn.Conv1d(before, width, 3, padding=1, bias=False), nn.BatchNorm1d(width)]
            layers.append(nn.ReLU(True))
            before = width
        if number < 3:
            layers.append(nn.MaxPool1d(4, ceil_mode=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(before, classes))


class LogMel(nn.Module):
    """Logarithm of the power by mel band and time; the triangles' weights do not matter here."""

    def __init__(self, window, hop, mels):
        super().__init__()
        self.hop = hop
        self.register_buffer("hann", torch.hann_window(window))
        self.register_buffer("filters", torch.rand(mels, window // 2 + 1))

    def forward(self, sounds):
        spectrum = torch.stft(
            sounds, len(self.hann), self.hop, window=self.hann, pad_mode="constant",
            return_complex=True,
        )  # fmt: skip
        power = self.filters @ (spectrum.real**2 + spectrum.imag**2)
        decibels = 10.0 * torch.log10(power.clamp(min=1e-10))
        top = decibels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(decibels, top - 80.0) - top)[:, None] / 80.0 + 1.0


NETS = {
    "resnet18": lambda: resnet((2, 2, 2, 2), 64, False, True, 1000),
    "resnet50": lambda: resnet((3, 4, 6, 3), 64, True, True, 1000),
    "vgg16": lambda: vgg16(10),
    "resnet20": lambda: resnet((3, 3, 3), 16, False, False, 10),
    "resnet20_thin": lambda: resnet((3, 3, 3), 8, False, False, 10, 1, stem_stride=2),
    "resnet44_thin": lambda: resnet((7, 7, 7), 8, False, False, 10, 1, stem_stride=2),
    "lenet5": lambda: lenet5(10),
    "vdcnn29": lambda: VDCNN((5, 5, 2, 2), 70, 10),
    "textcnn": lambda: TextCNN(20000, 10),
    "m11": lambda: waveform(64, (2, 2, 3, 2), 10),
    "resnet20_log_mel": lambda: nn.Sequential(
        LogMel(256, 128, 40), resnet((3, 3, 3), 16, False, False, 10, c_in=1)
    ),
}


# Form -> torch.compile's mode, if it is compiled. On a GPU this one uses CUDA graphs.
ON_GPU = {"eager": None, "compiled": "reduce-overhead"}
ON_CPU = {
    "channels_last": None,
    "contiguous": None,
    "inductor": "default",
    "inductor max-autotune": "max-autotune",
}


def inputs_of(name, count, size, channels):
    """Return random inputs as a data set stores them."""
    if name in (
        "vdcnn29",
        "textcnn",
    ):  # texts of a quarter of the length to all of it, then padding
        texts = torch.randint(1, channels, (count, size))
        lengths = torch.randint(size // 4, size + 1, (count, 1))
        return texts.masked_fill(torch.arange(size)[None] >= lengths, 0)
    if name in ("m11", "resnet20_log_mel"):
        return torch.randint(-(2**15), 2**15, (count, size), dtype=torch.int16)
    return torch.randint(0, 255, (count, channels, size, size), dtype=torch.uint8)


def prepared(name, stored):
    """Return inputs as the net takes them."""
    if name in ("vdcnn29", "textcnn"):
        return stored
    if name in ("m11", "resnet20_log_mel"):
        sounds = stored.float()
        sounds = sounds / sounds.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1.0)
        return sounds[:, None] if name == "m11" else sounds
    return stored.float().sub(73.0).div(90.0)


def main():
    """Time steps of one net until the input ends."""
    name, batch, size, channels, dtype, form, threads = sys.argv[1:]
    batch, size, channels = int(batch), int(size), int(channels)
    torch.manual_seed(0)
    torch.set_num_threads(int(threads))
    torch.backends.cudnn.benchmark = True
    device = "cuda" if form in ON_GPU else "cpu"
    mode = (ON_GPU | ON_CPU)[form]
    model = NETS[name]().train().to(device)
    stored = inputs_of(name, 2 * batch, size, channels).to(device)
    labels = torch.randint(0, 10, (2 * batch,)).to(device)
    if form != "contiguous" and stored.dim() == 4:
        model = model.to(memory_format=torch.channels_last)
        stored = stored.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4
    )

    def loss_of(images, labels):
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            return F.cross_entropy(model(prepared(name, images)), labels)

    if mode:
        loss_of = torch.compile(loss_of, mode=mode)

    def step(i):
        low = i % 2 * batch
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(stored[low : low + batch], labels[low : low + batch])
        loss.backward()
        optimizer.step()
        return loss

    for i in range(4):  # compiles, and records graphs
        step(i).item()
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for i in range(int(line)):
            loss = step(i)
        loss.item()
        print(time.perf_counter() - start, flush=True)


main()
