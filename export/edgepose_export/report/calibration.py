"""How far probabilities are to be believed: reliability diagrams, and the expected calibration error.

Source: C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.coco import WORKING_SCORE, match_detections
from edgepose_export.evaluation.curves import RIGHT_SIMILARITY
from edgepose_export.evaluation.keypoints import MatchedPerson

BINS = 10


def reliability(claimed: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare probabilities that something is right with how often it is.

    Args:
        claimed: (D,), 0 to 1.
        right: (D,).

    Returns:
        `count`; `ECE`, the mean over all D of the distance between claim and truth in their bin, None without any; `bins`, those of ten
        equal ones that are not empty, with `count`, mean `claimed` and share `right`.
    """
    number = np.clip((claimed * BINS).astype(int), 0, BINS - 1)
    bins = []
    for index in range(BINS):
        chosen = number == index
        if chosen.any():
            bins.append({"count": int(chosen.sum()), "claimed": float(claimed[chosen].mean()), "right": float(right[chosen].mean())})
    total = len(claimed)
    error = sum(entry["count"] * abs(entry["claimed"] - entry["right"]) for entry in bins) / total if total else None
    return {"count": total, "ECE": error, "bins": bins}


def score_calibration(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the reliability of the scores of all finds, and the `ECE_reported` of those that the daemon reports; right is OKS 0.5."""
    matched = match_detections(predictions, pictures)
    reported = matched.score >= WORKING_SCORE
    return reliability(matched.score, matched.right) | {
        "ECE_reported": reliability(matched.score[reported], matched.right[reported])["ECE"]
    }


def keypoint_calibration(matched: Sequence[MatchedPerson]) -> dict[str, Any]:
    """Return the reliability of the confidences of labeled keypoints of people who were found; right is a similarity above 0.5."""
    claimed = [person.found[person.labeled, 2] for person in matched]
    right = [person.similarities[person.labeled] > RIGHT_SIMILARITY for person in matched]
    return reliability(np.concatenate([np.zeros(0), *claimed]), np.concatenate([np.zeros(0, bool), *right]))
