"""Groups of pictures and clips by how steeply the camera looks down."""

ELEVATIONS_DEG = (0, 30, 60, 90)
"""The groups, degrees down; a picture belongs to the nearest."""


def elevation_group(elevation_deg: float) -> int:
    """Return the group that a picture belongs to."""
    return min(ELEVATIONS_DEG, key=lambda group: abs(group - elevation_deg))
