"""From an ocean model's output to tensors: sources, preparation, the packed store, statistics, training windows."""
