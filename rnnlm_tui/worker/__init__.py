"""The processes that hold torch: the training worker and the sampler."""
