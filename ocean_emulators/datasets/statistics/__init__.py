"""What fields are normalised by, and the climatology."""
