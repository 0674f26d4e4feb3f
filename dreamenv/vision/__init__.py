"""V, the vision: from an observation to a latent vector and back."""
