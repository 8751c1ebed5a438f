"""Output of ``deeper features``: how many there are, and how they tell the classes apart."""

from pathlib import Path

from rich.console import Console

from deeper.interpret import probes
from deeper.run.features import Features


def print_features(features: Features, path: Path, console: Console) -> None:
    """Print the size of the features of a run, and the errors of probes on them."""
    console.print(
        f"{features.layer} of {path}, step {features.step}: {features.train.shape[1]} features of "
        f"{len(features.train):,} training and {len(features.test):,} test images of "
        f"{features.data}",
        soft_wrap=True,
    )
    train, test = (features.train, features.train_labels), (features.test, features.test_labels)
    console.print(f"logistic regression   test error {probes.logistic(train, test):.2f} %")
    console.print(
        f"nearest neighbours    test error {probes.nearest_neighbours(train, test):.2f} %"
    )
