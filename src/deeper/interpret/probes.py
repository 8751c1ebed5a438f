"""Probes of features: logistic regression and nearest neighbours (scikit-learn)."""

import numpy as np
from jaxtyping import Float32, Int32

Features = Float32[np.ndarray, "n features"]
Labels = Int32[np.ndarray, " n"]

NEIGHBOURS = 20


def logistic(train: tuple[Features, Labels], test: tuple[Features, Labels]) -> float:
    """Return the test error in per cent of multinomial logistic regression.

    Features are standardised by the training split; L2 penalty with C = 1, L-BFGS.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
    return _error(probe, train, test)


def nearest_neighbours(train: tuple[Features, Labels], test: tuple[Features, Labels]) -> float:
    """Return the test error in per cent of a vote of the 20 nearest neighbours by cosine.

    Votes are weighted by one over the distance; 20 as in Caron et al. 2021 (arXiv:2104.14294).
    """
    from sklearn.neighbors import KNeighborsClassifier

    k = min(NEIGHBOURS, len(train[1]))
    return _error(KNeighborsClassifier(k, weights="distance", metric="cosine"), train, test)


def _error(probe, train: tuple[Features, Labels], test: tuple[Features, Labels]) -> float:
    probe.fit(*train)
    return 100.0 * float(np.mean(probe.predict(test[0]) != test[1]))
