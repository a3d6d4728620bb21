"""Released weights: read, checked, and written in their layout."""
