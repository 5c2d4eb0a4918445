"""Sample pictures for the miniature models, installed as the package `renoise_scenes`: see `renoise demo`."""
