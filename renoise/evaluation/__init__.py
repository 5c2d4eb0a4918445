"""Compares inversions and editing methods over a data set, and says what to choose for a model."""
