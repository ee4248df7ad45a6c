"""What a prepared directory holds, as text and as a page."""
