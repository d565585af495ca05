"""Measurements: each prints a table of ratios against something named, taken in one run."""
