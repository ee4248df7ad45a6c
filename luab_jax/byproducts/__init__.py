"""What an annotator left behind besides the label: records, geometry, and the target Z made of them."""
