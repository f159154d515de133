"""Verification: what is stored of a source is recomputed from its pages, and every difference is named."""
