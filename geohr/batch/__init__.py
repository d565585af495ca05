"""Many scenes, unattended."""
