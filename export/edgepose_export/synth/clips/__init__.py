"""Rendered clips: people who move before a camera that may move, with identities, events and the camera's motion.

`scripts` decides who does what and when, `motion` poses the bodies, `flights` moves the camera, `maker` renders and labels frames, and
`folder` writes them in the layout of COCO for videos.
"""
