"""What uses everything: the loop, the demo, publishing."""
