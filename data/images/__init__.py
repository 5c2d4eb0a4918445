"""The sample pictures, installed as the package `renoise_samples`: see `renoise demo`."""
