"""The life of a run: opened, visited page by page, sealed, restored, erased."""
