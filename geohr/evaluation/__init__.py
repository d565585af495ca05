"""Scores of a prediction against the truth."""
