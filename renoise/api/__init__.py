"""The front door for Python: load a model, invert images, reconstruct and edit them."""
