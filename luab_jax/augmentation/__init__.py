"""What changes the pixels of a training batch on the device, and the targets with them; all in the jitted step.

Crop and flip happen on the host (`luab_jax.data.pipeline`), where the image is still larger than the network's input.
`plan.py` draws what will happen to a batch and moves its targets, `render.py` carries it out on the pixels.
"""
