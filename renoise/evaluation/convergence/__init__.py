"""Measures how fast renoising converges, and advises on the settings of a person's own model and photographs."""
