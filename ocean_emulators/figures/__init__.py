"""One pure function a figure."""
