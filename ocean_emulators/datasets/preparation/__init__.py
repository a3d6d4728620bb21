"""From a source to packed training stores."""
