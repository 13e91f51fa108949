"""The portable implementations, one per file, named as their ids are."""
