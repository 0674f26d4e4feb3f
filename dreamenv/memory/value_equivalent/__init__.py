"""M of MuZero: it predicts what a search needs, and nothing that could be looked at."""
