"""Results side by side: tables in four formats, and a page. Needs neither jax nor cv2."""
