"""The annotation pages, their server and what leaves it: ImageNet-AB XML and COCO-AB JSON.

`docs/collect-protocol.md` describes what pages and server say to each other. Nothing here imports jax or tensorflow,
and nothing else in `data_prep` imports this package but its commands.
"""
