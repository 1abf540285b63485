"""Generated training data: the denoiser, its training and samplers, the classifier filter, synthetic shards."""
