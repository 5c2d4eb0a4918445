"""The presets, installed as the package `renoise_presets`: see `renoise presets`."""
