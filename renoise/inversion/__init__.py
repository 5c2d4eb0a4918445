"""Inversion methods, one file each."""
