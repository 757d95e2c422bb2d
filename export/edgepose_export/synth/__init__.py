"""Synthetic pictures of people with exact labels, rendered without a camera, a person or a human annotator.

The way of a picture (`pictures`): random numbers from (seed, split, index) → a view (`views`) of people (`bodies`, `poses`, `clothing`,
`accessories`) and things (`things`, of `meshes`) on the ground (`scene`) → lit triangles (`shading`) in the picture (`camera`) → pixels
and masks (`renderer`) on a background (`backgrounds`) → labels (`labels`) → weather, lens and sensor (`effects`) → a folder in COCO
layout (`dataset`).
"""
