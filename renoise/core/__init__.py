"""The mathematics, in plain PyTorch."""
