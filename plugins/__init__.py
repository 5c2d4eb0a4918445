"""The editing methods that come with ReNoise, installed as the package `renoise_plugins`."""
