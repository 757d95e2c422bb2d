"""From a recipe to the files that ship, in resumable steps: the way the shipped models are made."""
