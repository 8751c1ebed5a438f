"""A one-dimensional convolutional net of stock Flax layers."""

import flax.linen as nn


class Net(nn.Module):
    """Two convolutions, a mean over the length, and one score per label."""

    labels: int
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(self.width, (5,), name="stage1")(x))
        x = nn.relu(nn.Conv(self.width, (5,), strides=(2,), name="stage2")(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(self.labels, name="head")(x.mean(axis=1))
