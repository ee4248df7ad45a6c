"""A picture of the batches that training would see."""
