"""Where the ocean model's output lies, what layout it has, what of it is used, and what is refused."""
