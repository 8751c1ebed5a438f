"""What is made of a net's answers."""

import numpy as np
import pytest

from deeper.train.evaluate import Evaluation


def test_calibration_and_errors_by_class_by_hand():
    found = Evaluation(
        loss=np.zeros(5, np.float32),
        correct=np.array([1, 0, 1, 1, 0], np.float32),
        correct_top5=np.ones(5, np.float32),
        prediction=np.array([0, 1, 1, 2, 0], np.int32),
        confidence=np.array([0.9, 0.9, 0.6, 1.0, 0.2], np.float32),
        label=np.array([0, 0, 1, 2, 2], np.int32),
    )
    # Bins of a tenth: 0.9 and 0.9 (half right), 0.6 (right), 1.0 (right), 0.2 (wrong).
    expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.6) + abs(1 - 1.0) + abs(0 - 0.2)) / 5
    assert found.calibration_error(10) == pytest.approx(100 * expected, rel=1e-5)
    assert found.error_by_class(4) == [50.0, 0.0, 50.0, None]
