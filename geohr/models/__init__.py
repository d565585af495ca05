"""A network and its card, in one file."""
