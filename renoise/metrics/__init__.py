"""How far two batches of images are apart."""
