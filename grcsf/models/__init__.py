"""Segmentation networks and the two compensation units."""
