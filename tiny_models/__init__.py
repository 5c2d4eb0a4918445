"""The miniature world and the training of the shipped models. Run from a checkout: `python -m tiny_models fit`."""
