"""ImageNet-C's corruptions as pure functions of an image, a severity and a key."""
