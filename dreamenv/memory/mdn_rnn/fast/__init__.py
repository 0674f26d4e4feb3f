"""The MDN-RNN's dreamed step, rearranged for speed where nobody differentiates."""
