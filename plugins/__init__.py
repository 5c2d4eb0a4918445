"""Editing methods that ship with ReNoise, installed as the package `renoise_plugins`."""
