"""Sources: one file a dataset, from its own files into our conventions."""
