"""Real experience: collecting it, keeping it, preparing it for training."""
