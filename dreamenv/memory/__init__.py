"""M, the memory: what happens next, given the latent, the action and what was remembered."""
