"""What takes minutes: runs that are stopped at any moment, millions of dreamed steps, thousands of visitors."""
