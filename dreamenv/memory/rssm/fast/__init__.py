"""The RSSM's dreamed step, rearranged for speed where nobody differentiates."""
