"""Measures of people over time: identities, steadiness of poses, delay of smoothing, and events, on labeled clips.

`clips` reads labeled clips, `run` takes them through the runtime's own steps, `identities`, `steadiness` and `event_scores` measure,
`evaluation` puts the figures together, and `tables` shows them.
"""
