"""Runs the cells of a plan that the store does not have yet: in this process, or as one Ray Tune experiment."""
