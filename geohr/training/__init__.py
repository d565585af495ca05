"""Training: samples in, a model file out."""
