"""Test pictures that owe nothing to the training generator: other words, other fonts, drawn by Pillow and by a browser."""
