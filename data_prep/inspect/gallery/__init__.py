"""A page of images with all that annotators left on them, for `data_prep inspect --html`."""
