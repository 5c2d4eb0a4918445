"""Checkpoints behind one interface."""
