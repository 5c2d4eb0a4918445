"""Sample pictures for full models, installed as the package `renoise_photographs`: see `renoise demo`."""
