"""Power cuts for real: processes killed at any instant, and a file system that loses what was not synced."""
