"""Optimizers as the papers state them, put together from optax.

Each is a small dataclass that `conf/optimizer/*.yaml` constructs. The learning rate is stated for
256 examples a step and scales with the batch (Goyal et al. 2017, the linear scaling rule), so that
a recipe keeps its meaning when the batch changes.
"""

from dataclasses import dataclass

import jax
import optax


def decayed(params, everything: bool):
    """Return the mask of the parameters that weight decay acts on.

    PyTorch's training scripts decay everything (torchvision's, fb.resnet.torch). Caffe's nets, He
    et al. 2015 by the account of fb.resnet.torch's README, and recipes since He et al. 2018 ("bag
    of tricks") leave out biases and normalisation, which are the parameters with one axis.
    """
    return jax.tree.map(lambda leaf: everything or leaf.ndim > 1, params)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum and L2 weight decay in the gradient.

    The rate multiplies what the momentum has gathered, as in PyTorch; Caffe's and Krizhevsky et
    al.'s momentum gathers what the rate has multiplied. The two differ only where the rate changes.

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

    As `optax.lamb`, but what has no weight decay (biases and normalisation parameters, unless
    ``decay_all``) is not adapted by the trust ratio either, as in timm's Lamb (always_adapt=False),
    whose numbers recipes take. timm's also clips the gradient's norm at 1: train.gradient_clip.

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
