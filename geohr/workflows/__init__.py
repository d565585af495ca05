"""Whole jobs made of the verbs: many scenes, two dates, and how good a map is."""
