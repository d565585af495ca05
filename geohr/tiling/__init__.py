"""A scene cut into windows, and windows gathered into batches."""
