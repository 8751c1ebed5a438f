"""Optimizers as the papers state them, composed from optax.

Each is a dataclass that a file of `conf/optimizer` constructs. The learning rate is stated per 256
examples and is scaled with the batch size (the linear scaling rule of Goyal et al. 2017), so that a
recipe holds for any batch size.
"""

from dataclasses import dataclass

import jax
import optax


def decayed(params, everything: bool):
    """Return the mask of the parameters to which weight decay is applied.

    PyTorch's training scripts (torchvision, fb.resnet.torch) decay all parameters. Caffe's nets, He
    et al. 2015 according to the README of fb.resnet.torch, and recipes since He et al. 2018 ("bag
    of tricks") leave out biases and normalisation, which are the parameters with one axis.

    Args:
        params: tree of parameters.
        everything: decay all parameters, also those with one axis.
    """
    return jax.tree.map(lambda leaf: everything or leaf.ndim > 1, params)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and L2 weight decay in the gradient.

    The learning rate multiplies the momentum, as in PyTorch; in Caffe and in Krizhevsky et al. 2012
    the momentum accumulates gradients multiplied by the rate. The two differ only when the rate
    changes.

    Attributes:
        learning_rate: peak, per 256 examples.
        momentum: 0.9 in all the papers.
        nesterov: look ahead along the momentum (Sutskever et al. 2013).
        weight_decay: L2 coefficient, added to the gradient before the momentum.
        decay_all: also decay biases and normalisation parameters; see `decayed`.
    """

    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    decay_all: bool

    def transformation(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain for a learning-rate schedule over steps."""
        return optax.chain(
            optax.add_decayed_weights(
                self.weight_decay, mask=lambda params: decayed(params, self.decay_all)
            ),
            optax.sgd(schedule, momentum=self.momentum, nesterov=self.nesterov),
        )


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017).

    Attributes:
        learning_rate: peak, per 256 examples.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled coefficient, multiplied by the learning rate.
        decay_all: also decay biases and normalisation parameters.
    """

    learning_rate: float
    b1: float
    b2: float
    eps: float
    weight_decay: float
    decay_all: bool

    def transformation(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain for a learning-rate schedule over steps."""
        return optax.adamw(
            schedule,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=lambda params: decayed(params, self.decay_all),
        )


@dataclass(frozen=True)
class LARS:
    """Layer-wise adaptive rates for large batches (You et al. 2017).

    Attributes:
        learning_rate: peak, per 256 examples.
        momentum: decay of the velocity.
        trust_coefficient: ratio of update to weight norm, 0.001 in the paper.
        weight_decay: L2 coefficient inside the trust ratio.
        decay_all: also decay, and adapt, biases and normalisation parameters.
    """

    learning_rate: float
    momentum: float
    trust_coefficient: float
    weight_decay: float
    decay_all: bool

    def transformation(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain for a learning-rate schedule over steps."""

        def mask(params):
            return decayed(params, self.decay_all)

        return optax.lars(
            schedule,
            weight_decay=self.weight_decay,
            weight_decay_mask=mask,
            trust_coefficient=self.trust_coefficient,
            trust_ratio_mask=mask,
            momentum=self.momentum,
        )


@dataclass(frozen=True)
class LAMB:
    """Layer-wise adaptive rates over Adam, for large batches (You et al. 2019, arXiv:1904.00962).

    As `optax.lamb`, but parameters without weight decay (biases and normalisation, unless
    ``decay_all``) are not scaled by the trust ratio either, as in timm's Lamb (always_adapt=False),
    which recipes use. timm's also clips the norm of the gradient at 1: set train.gradient_clip.

    Attributes:
        learning_rate: peak, per 256 examples.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: coefficient, inside the trust ratio.
        decay_all: also decay, and adapt, biases and normalisation parameters.
    """

    learning_rate: float
    b1: float
    b2: float
    eps: float
    weight_decay: float
    decay_all: bool

    def transformation(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Return the optax chain for a learning-rate schedule over steps."""

        def mask(params):
            return decayed(params, self.decay_all)

        return optax.chain(
            optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps),
            optax.add_decayed_weights(self.weight_decay, mask=mask),
            optax.masked(optax.scale_by_trust_ratio(), mask),
            optax.scale_by_learning_rate(schedule),
        )


Optimizer = SGD | AdamW | LARS | LAMB
