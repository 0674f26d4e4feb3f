from __future__ import annotations

import numpy as np

from dreamenv.scoring.calibration import reward_calibration, termination_calibration


def test_calibration_bins() -> None:
    predicted = np.arange(20, dtype=np.float32)[::-1].copy()
    rows = reward_calibration(predicted, 2 * predicted, bins=4)
    assert [row["predicted"] for row in rows] == [2, 7, 12, 17]
    assert [row["real"] for row in rows] == [4, 14, 24, 34]
    assert len(reward_calibration(predicted[:2], predicted[:2])) == 2
    probability = np.array([0.0, 0.0005, 0.2, 0.25, 1.0], np.float32)
    found = termination_calibration(probability, np.array([False, False, True, False, True]))
    assert [(row["steps"], row["real"]) for row in found] == [(2, 0.0), (2, 0.5), (1, 1.0)]
