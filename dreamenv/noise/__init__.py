"""Where a dream's random numbers come from."""
