"""From episodes to V and M, one recipe a kind of memory."""
