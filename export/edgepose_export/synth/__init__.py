"""Synthetic pictures of people with exact labels, rendered without a camera, a person or a human annotator.

The way of a picture (`pictures.draw`): random numbers from (seed, split, index) → people (`bodies`, `poses`, `clothing`,
`accessories`) and things (`things`) on a ground (`scene`) → triangles in the picture (`camera`) → pixels and masks (`renderer`) →
labels (`labels`) → light, weather and sensor (`effects`) → a folder in COCO layout (`dataset`).
"""
