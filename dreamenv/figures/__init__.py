"""Everything that is looked at: plots, clips, videos, pages."""
