"""Vision Transformers: DeiT's, those of DeiT III and DINOv2."""
