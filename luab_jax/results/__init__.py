"""results.json and the files beside it: what they hold, how they are read and checked. Imports neither jax nor cv2."""
