"""Scores of windows joined to rows of probabilities."""
