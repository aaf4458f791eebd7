"""Building blocks by family and name (losses, encoders, optimizers, ...), as classes made from the core's registry."""
