"""Figures of merit of restored images and ensembles, for plain arrays."""
