"""Steps per second, compared with what the machine allows."""
