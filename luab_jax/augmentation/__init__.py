"""What changes the pixels of a training batch on the device, and the targets with them; all in the jitted step.

Crop and flip happen on the host (`luab_jax.data.pipeline`), where the image is still larger than the network's input.
`augment.py` puts the steps together.
"""
